-- Sealed records: what clients encrypted. The service has no key to them.

-- One row for each DID that has records.
CREATE TABLE record_owners (
    -- Random, and another one after an erasure: an old cursor fits no later owner of the same DID.
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- NULL once it is erased. What is left of its records is then being removed.
    did TEXT UNIQUE CHECK (length(did) BETWEEN 1 AND 1024),
    -- Whether an agent made it, and not the holder of a token.
    agent INTEGER NOT NULL CHECK (agent IN (0, 1)),
    -- Of the last change.
    sequence INTEGER NOT NULL DEFAULT 0,
    -- Of the last tombstone that was removed.
    forgotten INTEGER NOT NULL DEFAULT 0,
    -- Rows in `records`, tombstones included, and the bytes of their ciphertexts.
    records INTEGER NOT NULL DEFAULT 0 CHECK (records >= 0),
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    last_accessed INTEGER NOT NULL,
    CHECK (sequence >= forgotten AND forgotten >= 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX record_owners_inactive ON record_owners (last_accessed, id) WHERE did IS NOT NULL;
CREATE INDEX record_owners_erased ON record_owners (id) WHERE did IS NULL;

-- A tombstone is a row with `deleted_at`.
CREATE TABLE records (
    owner BLOB NOT NULL REFERENCES record_owners (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32 AND kind NOT GLOB '*[^a-z0-9_-]*'),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255 AND id NOT GLOB '*[^!-~]*'),
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    version INTEGER NOT NULL CHECK (version > 0),
    -- Of this write only, so that no version that was lost or erased is taken for it.
    tag BLOB NOT NULL CHECK (length(tag) = 8),
    -- Of the ciphertext, in bytes.
    size INTEGER NOT NULL,
    iv BLOB CHECK (length(iv) = 12),
    checksum BLOB CHECK (length(checksum) = 32),
    client_time INTEGER,
    metadata TEXT NOT NULL DEFAULT '{}'
        CHECK (json_type(metadata) = 'object' AND length(CAST(metadata AS BLOB)) <= 8192),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    deleted_at INTEGER,
    PRIMARY KEY (owner, kind, id),
    CHECK (
        CASE WHEN deleted_at IS NULL
            THEN size BETWEEN 1 AND 1000000 AND iv IS NOT NULL AND checksum IS NOT NULL
            ELSE size = 0 AND iv IS NULL AND checksum IS NULL AND client_time IS NULL
                AND metadata = '{}' AND expires_at IS NULL
        END
    )
) STRICT, WITHOUT ROWID;

-- The feed.
CREATE UNIQUE INDEX records_sequence ON records (owner, sequence);
-- The purge.
CREATE INDEX records_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX records_deleted ON records (deleted_at) WHERE deleted_at IS NOT NULL;

-- The ciphertext of a record, by the sequence of its write. Lists never read it.
CREATE TABLE record_blobs (
    owner BLOB NOT NULL REFERENCES record_owners (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    ciphertext BLOB NOT NULL CHECK (length(ciphertext) BETWEEN 1 AND 1000000),
    PRIMARY KEY (owner, sequence)
) STRICT;

-- What all owners that agents made have together. Each owner counts in one of these rows,
-- as on PostgreSQL, where agents would otherwise wait for each other.
CREATE TABLE record_shares (
    share INTEGER NOT NULL PRIMARY KEY CHECK (share BETWEEN 0 AND 15),
    records INTEGER NOT NULL DEFAULT 0 CHECK (records >= 0),
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0)
) STRICT;

INSERT INTO record_shares (share)
WITH RECURSIVE shares (share) AS (SELECT 0 UNION ALL SELECT share + 1 FROM shares WHERE share < 15)
SELECT share FROM shares;
