CREATE TABLE audit_events (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_type(detail) = 'object')
) STRICT, WITHOUT ROWID;

INSERT INTO audit_events (id, at, actor, action, subject, outcome, detail)
SELECT id, at, coalesce(actor, ''),
    CASE type
        WHEN 'onceguard.backup.made' THEN 'backup'
        WHEN 'onceguard.database.adopted' THEN 'database.adopt'
        WHEN 'onceguard.database.recovered' THEN 'database.recover'
        WHEN 'onceguard.transfer.began' THEN 'database.transfer'
        WHEN 'onceguard.transfer.cancelled' THEN 'database.transfer_cancel'
        WHEN 'onceguard.did.erased' THEN 'did.erase'
        WHEN 'onceguard.did.forgotten' THEN 'did.forget'
        WHEN 'onceguard.did.stored' THEN 'did.put'
        WHEN 'onceguard.did.revoked' THEN 'did.revoke'
        WHEN 'onceguard.database.purged' THEN 'purge'
        WHEN 'onceguard.records.deleted' THEN 'records.delete'
        WHEN 'onceguard.sealing.rotated' THEN 'sealing.rotate'
        WHEN 'onceguard.session.changed' THEN 'session.change'
        WHEN 'onceguard.session.ended' THEN 'session.end'
        WHEN 'onceguard.session.key_read' THEN 'session.key.read'
        WHEN 'onceguard.sessions.ended' THEN 'sessions.end'
        WHEN 'onceguard.token.created' THEN 'token.create'
        WHEN 'onceguard.token.revoked' THEN 'token.revoke'
        ELSE CASE WHEN type LIKE 'onceguard.%' THEN substr(type, length('onceguard.') + 1) ELSE type END
    END,
    coalesce(subject, ''), outcome, data
FROM events;

DROP TABLE event_heads;
DROP TABLE event_chain;
DROP TABLE events;

CREATE INDEX audit_events_at ON audit_events (at);

-- Events are deleted by the retention, and never changed.
CREATE TRIGGER audit_events_are_append_only BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events are append-only');
END;
