-- Without its namespace, such a token could claim everywhere.
DELETE FROM api_tokens WHERE namespace IS NOT NULL;
ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_bound_to_claims,
    DROP CONSTRAINT api_tokens_bound,
    DROP COLUMN max_ttl_seconds,
    DROP COLUMN namespace;
