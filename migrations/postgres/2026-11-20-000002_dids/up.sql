CREATE TABLE dids (
    did text COLLATE "C" PRIMARY KEY,
    public_key bytea,
    key_type text,
    owner_address text COLLATE "C",
    document jsonb,
    revoked boolean NOT NULL DEFAULT false,
    revoked_at timestamptz,
    source text,
    version text,
    fetched_at timestamptz,
    stale_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dids_key_unless_revoked CHECK (revoked OR public_key IS NOT NULL),
    CONSTRAINT dids_revoked_with_time CHECK (revoked = (revoked_at IS NOT NULL)),
    CONSTRAINT dids_key_with_type CHECK ((public_key IS NULL) = (key_type IS NULL)),
    CONSTRAINT dids_key_length CHECK (
        CASE key_type
            WHEN 'Ed25519' THEN octet_length(public_key) = 32
            WHEN 'Secp256k1' THEN octet_length(public_key) = 33
            WHEN 'P256' THEN octet_length(public_key) = 33
            ELSE key_type IS NULL
        END
    )
);

CREATE INDEX dids_owner ON dids (owner_address, did) WHERE owner_address IS NOT NULL;
CREATE INDEX dids_key_type ON dids (key_type, did);
CREATE INDEX dids_revoked ON dids (did) WHERE revoked;

CREATE FUNCTION dids_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER dids_updated BEFORE UPDATE ON dids
    FOR EACH ROW EXECUTE FUNCTION dids_updated();

-- A revocation is final, whoever writes: no statement takes it back, moves it, or forgets it.
CREATE FUNCTION dids_stay_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a revocation is final' USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER dids_stay_revoked BEFORE UPDATE ON dids
    FOR EACH ROW
    WHEN (OLD.revoked AND (
        NOT NEW.revoked OR NEW.did <> OLD.did OR NEW.revoked_at IS DISTINCT FROM OLD.revoked_at
    ))
    EXECUTE FUNCTION dids_stay_revoked();

CREATE TRIGGER dids_stay_remembered BEFORE DELETE ON dids
    FOR EACH ROW WHEN (OLD.revoked)
    EXECUTE FUNCTION dids_stay_revoked();

-- The quota: how many nonces of a signer are held. Rewritten by every claim, hence the room.
CREATE TABLE signers (
    signer bytea PRIMARY KEY,
    did text COLLATE "C" NOT NULL UNIQUE,
    live bigint NOT NULL DEFAULT 0,
    CONSTRAINT signers_length CHECK (octet_length(signer) = 16),
    CONSTRAINT signers_live_counted CHECK (live >= 0)
) WITH (fillfactor = 50);

CREATE TABLE signer_nonces (
    signer bytea NOT NULL,
    nonce text COLLATE "C" NOT NULL,
    used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    idempotency bytea,
    PRIMARY KEY (signer, nonce),
    CONSTRAINT signer_nonces_signer_length CHECK (octet_length(signer) = 16),
    CONSTRAINT signer_nonces_expire_after_use CHECK (expires_at > used_at),
    CONSTRAINT signer_nonces_idempotency_length CHECK (octet_length(idempotency) = 16)
);

-- The purge.
CREATE INDEX signer_nonces_expiry ON signer_nonces (expires_at);
