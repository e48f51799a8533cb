CREATE TABLE api_tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_tokens_hash_length CHECK (octet_length(hash) = 32),
    CONSTRAINT api_tokens_expire_after_creation CHECK (expires_at > created_at),
    CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'admin'
        ]
    )
);

CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    outcome text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_events_at ON audit_events (at, id);
CREATE INDEX audit_events_failed ON audit_events (at) WHERE outcome <> 'success';

-- Events are only ever added; the purge deletes those past their retention.
CREATE FUNCTION audit_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_stay();

CREATE TABLE sealing_keys (
    key_id text COLLATE "C" PRIMARY KEY,
    check_value bytea NOT NULL
);
