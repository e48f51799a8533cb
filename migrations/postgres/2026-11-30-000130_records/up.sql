-- Sealed records: what clients encrypted. The service has no key to them.

-- One row for each DID that has records. Its lock orders the changes of its records, so a reader who
-- reads them in the order of `sequence` never misses one that commits late.
CREATE TABLE record_owners (
    -- Random, and another one after an erasure: an old cursor fits no later owner of the same DID.
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- NULL once it is erased. What is left of its records is then being removed.
    did text COLLATE "C" UNIQUE,
    -- Whether an agent made it, and not the holder of a token.
    agent boolean NOT NULL,
    -- Of the last change.
    sequence bigint NOT NULL DEFAULT 0,
    -- Of the last tombstone that was removed.
    forgotten bigint NOT NULL DEFAULT 0,
    -- Rows in `records`, tombstones included, and the bytes of their ciphertexts.
    records bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    last_accessed timestamptz NOT NULL,
    CONSTRAINT record_owners_did_length CHECK (octet_length(did) BETWEEN 1 AND 1024),
    CONSTRAINT record_owners_counted CHECK (records >= 0 AND bytes >= 0),
    CONSTRAINT record_owners_sequence CHECK (sequence >= forgotten AND forgotten >= 0)
) WITH (fillfactor = 70);

CREATE INDEX record_owners_inactive ON record_owners (last_accessed, id) WHERE did IS NOT NULL;
CREATE INDEX record_owners_erased ON record_owners (id) WHERE did IS NULL;

-- A tombstone is a row with `deleted_at`.
CREATE TABLE records (
    owner uuid NOT NULL REFERENCES record_owners (id) ON DELETE CASCADE,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    version bigint NOT NULL,
    -- Of this write only, so that no version that was lost or erased is taken for it.
    tag bytea NOT NULL,
    -- Of the ciphertext, in bytes.
    size bigint NOT NULL,
    iv bytea,
    checksum bytea,
    client_time timestamptz,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz,
    deleted_at timestamptz,
    PRIMARY KEY (owner, kind, id),
    CONSTRAINT records_kind_form CHECK (kind ~ '^[a-z0-9_-]{1,32}$'),
    CONSTRAINT records_id_form CHECK (id ~ '^[!-~]{1,255}$'),
    CONSTRAINT records_versions_counted CHECK (sequence > 0 AND version > 0),
    CONSTRAINT records_tag_length CHECK (octet_length(tag) = 8),
    CONSTRAINT records_iv_length CHECK (octet_length(iv) = 12),
    CONSTRAINT records_checksum_length CHECK (octet_length(checksum) = 32),
    CONSTRAINT records_metadata_object CHECK (jsonb_typeof(metadata) = 'object'),
    -- jsonb writes up to a space for each character of the 4096 that a caller may send.
    CONSTRAINT records_metadata_length CHECK (octet_length(metadata::text) <= 8192),
    CONSTRAINT records_whole CHECK (
        CASE WHEN deleted_at IS NULL
            THEN size BETWEEN 1 AND 1000000 AND iv IS NOT NULL AND checksum IS NOT NULL
            ELSE size = 0 AND iv IS NULL AND checksum IS NULL AND client_time IS NULL
                AND metadata = '{}' AND expires_at IS NULL
        END
    )
);

-- The feed.
CREATE UNIQUE INDEX records_sequence ON records (owner, sequence);
-- The purge.
CREATE INDEX records_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX records_deleted ON records (deleted_at) WHERE deleted_at IS NOT NULL;

-- The ciphertext of a record, by the sequence of its write. Lists never read it.
CREATE TABLE record_blobs (
    owner uuid NOT NULL REFERENCES record_owners (id) ON DELETE CASCADE,
    sequence bigint NOT NULL,
    ciphertext bytea NOT NULL,
    PRIMARY KEY (owner, sequence),
    CONSTRAINT record_blobs_length CHECK (octet_length(ciphertext) BETWEEN 1 AND 1000000)
);

-- Ciphertexts do not compress.
ALTER TABLE record_blobs ALTER COLUMN ciphertext SET STORAGE EXTERNAL;

-- What all owners that agents made have together. Each owner counts in one of these rows, so that
-- agents seldom wait for each other.
CREATE TABLE record_shares (
    share integer PRIMARY KEY,
    records bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    CONSTRAINT record_shares_known CHECK (share BETWEEN 0 AND 15),
    CONSTRAINT record_shares_counted CHECK (records >= 0 AND bytes >= 0)
) WITH (fillfactor = 50);

INSERT INTO record_shares (share) SELECT generate_series(0, 15);

ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_scopes_known,
    ADD CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'records', 'admin'
        ]
    );
