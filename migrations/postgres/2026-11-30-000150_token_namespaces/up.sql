-- A token that is bound to a namespace claims and reads there, and does nothing else.
ALTER TABLE api_tokens
    ADD COLUMN namespace text COLLATE "C",
    -- How far ahead a nonce that it claims may expire.
    ADD COLUMN max_ttl_seconds integer,
    ADD CONSTRAINT api_tokens_namespace_form CHECK (namespace ~ '^[!-~]{1,255}$'),
    ADD CONSTRAINT api_tokens_max_ttl CHECK (max_ttl_seconds BETWEEN 1 AND 86400),
    ADD CONSTRAINT api_tokens_bound CHECK ((namespace IS NULL) = (max_ttl_seconds IS NULL)),
    ADD CONSTRAINT api_tokens_bound_to_claims CHECK (namespace IS NULL OR scopes = ARRAY['nonces']);
