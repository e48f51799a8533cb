DROP TABLE nonces;
DROP TABLE sessions;
