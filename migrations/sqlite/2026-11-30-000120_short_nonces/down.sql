DROP VIEW nonces;

CREATE TABLE sessions_rebuilt (
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

INSERT INTO sessions_rebuilt (
    id, client_did, server_did, session_key, key_id, created_at, expires_at, deadline,
    last_activity, idle_timeout_seconds, max_claims, claims, metadata, user_agent, ip_address,
    ended_at, end_reason, version
)
SELECT
    id, client_did, server_did, session_key, key_id, created_at, expires_at, deadline,
    last_activity, idle_timeout_seconds, max_claims, claims, metadata, user_agent, ip_address,
    ended_at, end_reason, version
FROM sessions;

-- `expires_at` is the session's deadline. Rows leave with their session.
CREATE TABLE nonces (
    session_id BLOB NOT NULL REFERENCES sessions_rebuilt (id) ON DELETE CASCADE,
    nonce TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    idempotency BLOB CHECK (length(idempotency) = 16),
    PRIMARY KEY (session_id, nonce),
    CHECK (expires_at > used_at)
) STRICT, WITHOUT ROWID;

INSERT INTO nonces (session_id, nonce, used_at, expires_at, idempotency)
SELECT s.id, n.nonce, n.used_at, s.deadline, n.idempotency
FROM sessions AS s CROSS JOIN session_nonces AS n ON n.session = s.number
ORDER BY s.id, n.nonce;

DROP TABLE session_nonces;
DROP TABLE sessions;
ALTER TABLE sessions_rebuilt RENAME TO sessions;

CREATE INDEX sessions_created ON sessions (created_at, id);
CREATE INDEX sessions_client ON sessions (client_did, created_at, id);
CREATE INDEX sessions_server ON sessions (server_did, created_at, id);
CREATE INDEX sessions_client_live ON sessions (client_did, created_at, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_server_live ON sessions (server_did, created_at, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_idle ON sessions (id)
    WHERE ended_at IS NULL AND idle_timeout_seconds IS NOT NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX sessions_key ON sessions (key_id, id) WHERE key_id IS NOT NULL;
