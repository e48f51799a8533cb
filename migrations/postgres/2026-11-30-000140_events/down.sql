CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    outcome text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);

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
DROP FUNCTION events_stay();

CREATE INDEX audit_events_at ON audit_events (at, id);
CREATE INDEX audit_events_failed ON audit_events (at) WHERE outcome <> 'success';

-- Events are only ever added; the purge deletes those past their retention.
CREATE FUNCTION audit_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_stay();
