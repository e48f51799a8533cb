-- With the triggers of a database that was moved.
DROP FUNCTION refuse_changes CASCADE;
DROP TABLE transfers;
