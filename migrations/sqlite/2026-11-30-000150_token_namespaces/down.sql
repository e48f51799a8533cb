-- Without its namespace, such a token could claim everywhere.
DELETE FROM api_tokens WHERE namespace IS NOT NULL;
ALTER TABLE api_tokens DROP COLUMN max_ttl_seconds;
ALTER TABLE api_tokens DROP COLUMN namespace;
