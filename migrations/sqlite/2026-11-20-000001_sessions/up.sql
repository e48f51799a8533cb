-- Times are microseconds since 1970 in UTC; ids are the 16 bytes of a UUID.
CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    client_did TEXT NOT NULL,
    server_did TEXT NOT NULL,
    session_key BLOB,
    key_id TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    idle_timeout_seconds INTEGER CHECK (idle_timeout_seconds > 0),
    max_claims INTEGER CHECK (max_claims > 0),
    claims INTEGER NOT NULL DEFAULT 0 CHECK (claims >= 0),
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_type(metadata) = 'object'),
    user_agent TEXT,
    ip_address TEXT,
    ended_at INTEGER,
    end_reason TEXT CHECK (end_reason IN ('ended', 'expired', 'idle', 'did_revoked', 'restored')),
    version INTEGER NOT NULL DEFAULT 1,
    CHECK (claims <= max_claims),
    CHECK (expires_at > created_at),
    CHECK (expires_at <= deadline),
    CHECK ((session_key IS NULL) = (key_id IS NULL)),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK (ended_at IS NULL OR session_key IS NULL)
) STRICT;

-- Lists, newest first: all, by client, by server.
CREATE INDEX sessions_created ON sessions (created_at, id);
CREATE INDEX sessions_client ON sessions (client_did, created_at, id);
CREATE INDEX sessions_server ON sessions (server_did, created_at, id);
-- The live ones of a party, to end or to list without reading all that it ever had.
CREATE INDEX sessions_client_live ON sessions (client_did, created_at, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_server_live ON sessions (server_did, created_at, id) WHERE ended_at IS NULL;
-- The purge: what is overdue, what may idle, what is past its retention.
CREATE INDEX sessions_expiry ON sessions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_idle ON sessions (id)
    WHERE ended_at IS NULL AND idle_timeout_seconds IS NOT NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
-- Sessions sealed with one key, or with another.
CREATE INDEX sessions_key ON sessions (key_id, id) WHERE key_id IS NOT NULL;

-- `expires_at` is the session's deadline. Rows leave with their session.
CREATE TABLE nonces (
    session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    nonce TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    idempotency BLOB CHECK (length(idempotency) = 16),
    PRIMARY KEY (session_id, nonce),
    CHECK (expires_at > used_at)
) STRICT, WITHOUT ROWID;
