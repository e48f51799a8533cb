-- DIDs and nonces are compared byte for byte, hence COLLATE "C": it is also faster, and no
-- upgrade of the system's locales can corrupt an index on it.

-- The fill factor leaves room in each page, so that recording activity (`last_activity`,
-- `claims`), which no index knows of, rewrites a row in place and touches no index.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    client_did text COLLATE "C" NOT NULL,
    server_did text COLLATE "C" NOT NULL,
    session_key bytea,
    key_id text COLLATE "C",
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    deadline timestamptz NOT NULL,
    last_activity timestamptz NOT NULL,
    idle_timeout_seconds integer,
    max_claims bigint,
    claims bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    user_agent text,
    ip_address inet,
    ended_at timestamptz,
    end_reason text,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT sessions_expire_after_creation CHECK (expires_at > created_at),
    CONSTRAINT sessions_expire_by_deadline CHECK (expires_at <= deadline),
    CONSTRAINT sessions_key_with_key_id CHECK ((session_key IS NULL) = (key_id IS NULL)),
    CONSTRAINT sessions_ended_without_key CHECK (ended_at IS NULL OR session_key IS NULL),
    CONSTRAINT sessions_idle_timeout_positive CHECK (idle_timeout_seconds > 0),
    CONSTRAINT sessions_max_claims_positive CHECK (max_claims > 0),
    CONSTRAINT sessions_claims_counted CHECK (claims >= 0 AND claims <= max_claims),
    CONSTRAINT sessions_metadata_object CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT sessions_end_with_reason CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CONSTRAINT sessions_end_reason_known CHECK (
        end_reason IN ('ended', 'expired', 'idle', 'did_revoked', 'restored')
    )
) WITH (fillfactor = 80);

-- Lists, newest first.
CREATE INDEX sessions_created ON sessions (created_at, id);
CREATE INDEX sessions_client ON sessions (client_did, created_at, id);
CREATE INDEX sessions_server ON sessions (server_did, created_at, id);
-- Live sessions of a party: lists of active ones, ending them all, the busiest clients.
CREATE INDEX sessions_client_live ON sessions (client_did, created_at, id)
    WHERE ended_at IS NULL;
CREATE INDEX sessions_server_live ON sessions (server_did, created_at, id)
    WHERE ended_at IS NULL;
-- The purge. When a session idles depends on its last activity, which must stay out of every
-- index; so the candidates are walked in the order of their ids.
CREATE INDEX sessions_expiry ON sessions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_idle ON sessions (id)
    WHERE ended_at IS NULL AND idle_timeout_seconds IS NOT NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
-- Sessions sealed with one key, or with another.
CREATE INDEX sessions_key ON sessions (key_id, id) WHERE key_id IS NOT NULL;

-- How much later than its timeout a session counts as idle: activity is written down only when
-- the last one is older than this. LEAST ignores NULL, the absence of a timeout.
CREATE FUNCTION session_granularity(idle_timeout_seconds integer) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(interval '5 seconds', idle_timeout_seconds * interval '100 milliseconds');

-- When a session that nobody ends is over: at its expiry, or once it idled.
CREATE FUNCTION session_over_at(
    expires_at timestamptz, last_activity timestamptz, idle_timeout_seconds integer
) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN least(
        expires_at,
        last_activity + idle_timeout_seconds * interval '1 second'
            + session_granularity(idle_timeout_seconds)
    );

-- Why it is over then.
CREATE FUNCTION session_over_reason(
    expires_at timestamptz, last_activity timestamptz, idle_timeout_seconds integer
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE
        WHEN session_over_at(expires_at, last_activity, idle_timeout_seconds) < expires_at
        THEN 'idle' ELSE 'expired'
    END;

-- A session's nonces leave with their session, along the primary key.
CREATE TABLE nonces (
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    nonce text COLLATE "C" NOT NULL,
    used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    idempotency bytea,
    PRIMARY KEY (session_id, nonce),
    CONSTRAINT nonces_expire_after_use CHECK (expires_at > used_at),
    CONSTRAINT nonces_idempotency_length CHECK (octet_length(idempotency) = 16)
);
