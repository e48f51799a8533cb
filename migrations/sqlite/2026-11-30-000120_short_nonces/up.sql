-- A nonce names its session by a number of 1 to 4 bytes instead of the 16 bytes of its id, and its
-- expiry is not repeated: it is the session's deadline. So a page holds half as many nonces again.
-- Constraints change only with the table. In the order of the ids, the nonces are read and written
-- in the order of their keys.
CREATE TABLE sessions_rebuilt (
    number INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
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
FROM sessions ORDER BY id;

CREATE TABLE session_nonces (
    session INTEGER NOT NULL REFERENCES sessions_rebuilt (number) ON DELETE CASCADE,
    nonce TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    idempotency BLOB CHECK (length(idempotency) = 16),
    PRIMARY KEY (session, nonce)
) STRICT, WITHOUT ROWID;

INSERT INTO session_nonces (session, nonce, used_at, idempotency)
SELECT s.number, n.nonce, n.used_at, n.idempotency
FROM nonces AS n CROSS JOIN sessions_rebuilt AS s ON s.id = n.session_id
ORDER BY n.session_id, n.nonce;

-- The nonces first: nothing refers to the old sessions then, so nothing is deleted with them.
DROP TABLE nonces;
DROP TABLE sessions;
-- SQLite renames it in the nonces' reference, too.
ALTER TABLE sessions_rebuilt RENAME TO sessions;

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

-- The nonces of sessions with the columns that they have on PostgreSQL, for archives and people.
CREATE VIEW nonces (session_id, nonce, used_at, expires_at, idempotency) AS
SELECT s.id, n.nonce, n.used_at, s.deadline, n.idempotency
FROM session_nonces AS n JOIN sessions AS s ON s.number = n.session;

CREATE TRIGGER nonces_insert INSTEAD OF INSERT ON nonces
BEGIN
    INSERT INTO session_nonces (session, nonce, used_at, idempotency)
    VALUES (
        (SELECT number FROM sessions WHERE id = NEW.session_id),
        NEW.nonce, NEW.used_at, NEW.idempotency
    );
END;
