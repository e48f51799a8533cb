-- The calls with an Idempotency-Key that published events. A repeat gets the ids of the first call.
CREATE TABLE publications (
    -- Of the caller and its key.
    digest bytea PRIMARY KEY,
    -- Of what was published: the key is not for anything else.
    content bytea NOT NULL,
    -- In the order of the call.
    events uuid[] NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT publications_digest_length CHECK (octet_length(digest) = 16),
    CONSTRAINT publications_content_length CHECK (octet_length(content) = 32)
);

-- The purge.
CREATE INDEX publications_at ON publications (at);

ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_scopes_known,
    ADD CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'records', 'events',
            'audit', 'admin'
        ]
    );
