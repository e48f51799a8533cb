-- What a resolver read of a DID: its document, or that it is gone, and at which block.
ALTER TABLE dids
    ALTER COLUMN version TYPE bigint USING version::bigint,
    ADD COLUMN gone text,
    DROP CONSTRAINT dids_key_unless_revoked,
    ADD CONSTRAINT dids_known_or_revoked CHECK (
        revoked OR public_key IS NOT NULL OR document IS NOT NULL
    ),
    ADD CONSTRAINT dids_gone_known CHECK (gone IN ('not_found', 'deactivated')),
    ADD CONSTRAINT dids_version_counted CHECK (version >= 0);

-- The purge of what resolvers read and nobody asks for any more.
CREATE INDEX dids_unused ON dids (fetched_at) WHERE stale_at IS NOT NULL AND NOT revoked;

-- Tells every instance that listens of each change, whoever makes it, when it is committed. That
-- a DID was only read again, with nothing new, is no change. A revocation also tells which
-- instance it is by; each sets its name in its sessions.
CREATE FUNCTION dids_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    instance text := coalesce(nullif(current_setting('onceguard.instance', true), ''), '-');
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('dids', 'everything');
        RETURN NULL;
    END IF;
    -- A notification must be shorter than 8000 bytes; no DID of the service's is longer than 1024.
    IF OLD.did IS DISTINCT FROM NEW.did AND OLD.did IS NOT NULL THEN
        PERFORM pg_notify('dids', 'changed ' || left(OLD.did, 1024));
    END IF;
    IF NEW.did IS NOT NULL THEN
        PERFORM pg_notify('dids',
            CASE WHEN NEW.revoked AND OLD.revoked IS NOT TRUE
                THEN 'revoked ' || instance || ' ' ELSE 'changed '
            END || left(NEW.did, 1024));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER dids_come_and_go AFTER INSERT OR DELETE ON dids
    FOR EACH ROW EXECUTE FUNCTION dids_changed();

CREATE TRIGGER dids_changed AFTER UPDATE ON dids
    FOR EACH ROW
    WHEN ((OLD.did, OLD.public_key, OLD.key_type, OLD.owner_address, OLD.document, OLD.gone,
            OLD.revoked, OLD.source)
        IS DISTINCT FROM (NEW.did, NEW.public_key, NEW.key_type, NEW.owner_address, NEW.document,
            NEW.gone, NEW.revoked, NEW.source))
    EXECUTE FUNCTION dids_changed();

CREATE TRIGGER dids_truncated AFTER TRUNCATE ON dids
    FOR EACH STATEMENT EXECUTE FUNCTION dids_changed();
