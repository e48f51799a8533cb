DROP TRIGGER dids_truncated ON dids;
DROP TRIGGER dids_changed ON dids;
DROP TRIGGER dids_come_and_go ON dids;
DROP FUNCTION dids_changed();
DROP INDEX dids_unused;

-- What resolvers read can be read again; without its times and `gone` it would count as stored.
DELETE FROM dids WHERE NOT revoked AND (stale_at IS NOT NULL OR public_key IS NULL);

ALTER TABLE dids
    DROP CONSTRAINT dids_version_counted,
    DROP CONSTRAINT dids_gone_known,
    DROP CONSTRAINT dids_known_or_revoked,
    ADD CONSTRAINT dids_key_unless_revoked CHECK (revoked OR public_key IS NOT NULL),
    DROP COLUMN gone,
    ALTER COLUMN version TYPE text;
