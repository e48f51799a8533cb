-- What a resolver read of a DID: its document, or that it is gone, and at which block. Constraints
-- change only with the table.
CREATE TABLE dids_rebuilt (
    did TEXT NOT NULL PRIMARY KEY,
    public_key BLOB,
    key_type TEXT,
    owner_address TEXT,
    document TEXT CHECK (json_valid(document)),
    gone TEXT CHECK (gone IN ('not_found', 'deactivated')),
    revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    revoked_at INTEGER,
    source TEXT,
    version INTEGER CHECK (version >= 0),
    fetched_at INTEGER,
    stale_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK (revoked = 1 OR public_key IS NOT NULL OR document IS NOT NULL),
    CHECK ((public_key IS NULL) = (key_type IS NULL)),
    CHECK (
        CASE key_type
            WHEN 'Ed25519' THEN length(public_key) = 32
            WHEN 'Secp256k1' THEN length(public_key) = 33
            WHEN 'P256' THEN length(public_key) = 33
            ELSE key_type IS NULL
        END
    ),
    CHECK ((revoked = 1) = (revoked_at IS NOT NULL))
) STRICT;

INSERT INTO dids_rebuilt (
    did, public_key, key_type, owner_address, document, revoked, revoked_at, source, version,
    fetched_at, stale_at, created_at, updated_at
)
SELECT
    did, public_key, key_type, owner_address, document, revoked, revoked_at, source, version,
    fetched_at, stale_at, created_at, updated_at
FROM dids;

-- Its indexes and triggers leave with it. No trigger runs: this is no DELETE.
DROP TABLE dids;
ALTER TABLE dids_rebuilt RENAME TO dids;

CREATE INDEX dids_owner ON dids (owner_address, did) WHERE owner_address IS NOT NULL;
CREATE INDEX dids_key_type ON dids (key_type, did);
CREATE INDEX dids_revoked ON dids (did) WHERE revoked = 1;
-- The purge of what resolvers read and nobody asks for any more.
CREATE INDEX dids_unused ON dids (fetched_at) WHERE stale_at IS NOT NULL AND revoked = 0;

-- The service sets `updated_at` itself, by its clock; this is for changes made by hand.
CREATE TRIGGER dids_updated AFTER UPDATE ON dids
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE dids
    SET updated_at = max(OLD.updated_at, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    WHERE did = NEW.did;
END;

-- A revocation is final, whoever writes: no statement takes it back, moves it, or forgets it.
CREATE TRIGGER dids_stay_revoked BEFORE UPDATE ON dids
WHEN OLD.revoked = 1
    AND (NEW.revoked = 0 OR NEW.did <> OLD.did OR NEW.revoked_at IS NOT OLD.revoked_at)
BEGIN
    SELECT RAISE(ABORT, 'a revocation is final');
END;

CREATE TRIGGER dids_stay_remembered BEFORE DELETE ON dids
WHEN OLD.revoked = 1
BEGIN
    SELECT RAISE(ABORT, 'a revocation is final');
END;
