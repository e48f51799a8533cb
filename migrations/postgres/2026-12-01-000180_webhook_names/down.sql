DROP INDEX webhooks_name;
ALTER TABLE webhooks DROP COLUMN name;
