-- The schema of the founding documents: the nonce alone is the key, with a foreign key and three
-- secondary indexes. COLLATE "C" is not in them: it makes the key faster to compare, whatever the
-- database's collation.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    client_did text NOT NULL,
    server_did text NOT NULL,
    session_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    last_activity timestamptz NOT NULL DEFAULT now(),
    metadata jsonb,
    CHECK (expires_at > created_at)
);
CREATE INDEX ON sessions (client_did);
CREATE INDEX ON sessions (server_did);
CREATE INDEX ON sessions (expires_at);
CREATE INDEX ON sessions (created_at);

CREATE TABLE nonces (
    nonce text COLLATE "C" PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    used_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CHECK (expires_at > used_at)
);
CREATE INDEX ON nonces (session_id);
CREATE INDEX ON nonces (expires_at);
CREATE INDEX ON nonces (used_at);

-- Their ids end in 10 to 73, which pgbench can put together.
INSERT INTO sessions (id, client_did, server_did, session_key, expires_at)
SELECT ('00000000-0000-4000-8000-0000000000' || n)::uuid, 'did:web:a.example', 'did:web:b.example',
    '\x00', now() + interval '1 day'
FROM generate_series(10, 73) AS n;
