-- A token that is bound to a namespace claims and reads there, and does nothing else.
ALTER TABLE api_tokens ADD COLUMN namespace TEXT
    CHECK (length(namespace) BETWEEN 1 AND 255 AND namespace NOT GLOB '*[^!-~]*')
    CHECK (namespace IS NULL OR scopes = '["nonces"]');
-- How far ahead a nonce that it claims may expire.
ALTER TABLE api_tokens ADD COLUMN max_ttl_seconds INTEGER
    CHECK (max_ttl_seconds BETWEEN 1 AND 86400)
    CHECK ((namespace IS NULL) = (max_ttl_seconds IS NULL));
