-- One log: the audit trail, and what callers publish. Events are only ever added. One job gives those
-- that are committed their place and links them, so that a change of any of them shows.

CREATE TABLE events (
    id uuid PRIMARY KEY,
    -- Its place in the log. NULL until it is linked.
    sequence bigint UNIQUE,
    type text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    -- NULL once it is erased, as the actor.
    subject text COLLATE "C",
    actor text COLLATE "C",
    -- `success`, or the code of a refusal.
    outcome text COLLATE "C" NOT NULL,
    request_id text COLLATE "C",
    at timestamptz NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    -- Hashed with the event, so that no event can be guessed from what is left of it. NULL once it is
    -- erased.
    salt bytea,
    -- SHA-256 of the salt and the event.
    commitment bytea,
    -- SHA-256 of the hash of the event before and the commitment.
    hash bytea,
    CONSTRAINT events_linked_whole CHECK (num_nulls(sequence, commitment, hash) IN (0, 3)),
    CONSTRAINT events_sequence_counted CHECK (sequence > 0),
    CONSTRAINT events_salted CHECK (
        (salt IS NOT NULL) = (sequence IS NOT NULL AND type <> 'onceguard.erased')
    ),
    CONSTRAINT events_lengths CHECK (
        octet_length(salt) = 16 AND octet_length(commitment) = 32 AND octet_length(hash) = 32
    ),
    CONSTRAINT events_data_object CHECK (jsonb_typeof(data) = 'object'),
    -- jsonb writes up to a space for each character of the 16384 that an event may have.
    CONSTRAINT events_data_length CHECK (octet_length(data::text) <= 32768)
);

INSERT INTO events (id, type, source, subject, actor, outcome, at, data)
SELECT id,
    CASE action
        WHEN 'backup' THEN 'onceguard.backup.made'
        WHEN 'database.adopt' THEN 'onceguard.database.adopted'
        WHEN 'database.recover' THEN 'onceguard.database.recovered'
        WHEN 'database.transfer' THEN 'onceguard.transfer.began'
        WHEN 'database.transfer_cancel' THEN 'onceguard.transfer.cancelled'
        WHEN 'did.erase' THEN 'onceguard.did.erased'
        WHEN 'did.forget' THEN 'onceguard.did.forgotten'
        WHEN 'did.put' THEN 'onceguard.did.stored'
        WHEN 'did.revoke' THEN 'onceguard.did.revoked'
        WHEN 'purge' THEN 'onceguard.database.purged'
        WHEN 'records.delete' THEN 'onceguard.records.deleted'
        WHEN 'sealing.rotate' THEN 'onceguard.sealing.rotated'
        WHEN 'session.change' THEN 'onceguard.session.changed'
        WHEN 'session.end' THEN 'onceguard.session.ended'
        WHEN 'session.key.read' THEN 'onceguard.session.key_read'
        WHEN 'sessions.end' THEN 'onceguard.sessions.ended'
        WHEN 'token.create' THEN 'onceguard.token.created'
        WHEN 'token.revoke' THEN 'onceguard.token.revoked'
        ELSE 'onceguard.' || action
    END,
    'onceguard', subject, actor, outcome, at, detail
FROM audit_events;

DROP TABLE audit_events;
DROP FUNCTION audit_events_stay();

-- What is to be linked, in the order in which it is.
CREATE INDEX events_unlinked ON events (id) WHERE sequence IS NULL;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_failed ON events (at) WHERE outcome <> 'success';
CREATE INDEX events_type ON events (type, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_subject ON events (subject, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_actor ON events (actor, sequence) WHERE sequence IS NOT NULL;

-- An event changes only when it is linked and when it is erased. The purge deletes those past their
-- retention.
CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'check_violation';
END
$$;

-- Its conditions stand here, since PostgreSQL evaluates them in a tenth of the time that a function
-- takes for each event that is linked.
CREATE TRIGGER events_stay BEFORE UPDATE ON events FOR EACH ROW
WHEN (NOT (
    OLD.sequence IS NULL AND NEW.sequence IS NOT NULL
    AND (NEW.id, NEW.type, NEW.source, NEW.subject, NEW.actor, NEW.outcome, NEW.request_id,
        NEW.at, NEW.data)
    IS NOT DISTINCT FROM (OLD.id, OLD.type, OLD.source, OLD.subject, OLD.actor, OLD.outcome,
        OLD.request_id, OLD.at, OLD.data)
) AND NOT (
    (NEW.id, NEW.sequence, NEW.at, NEW.commitment, NEW.hash)
    IS NOT DISTINCT FROM (OLD.id, OLD.sequence, OLD.at, OLD.commitment, OLD.hash)
    AND (NEW.type, NEW.source, NEW.subject, NEW.actor, NEW.outcome, NEW.request_id, NEW.data,
        NEW.salt)
    IS NOT DISTINCT FROM ('onceguard.erased', 'onceguard', NULL, NULL, 'success', NULL,
        '{}'::jsonb, NULL::bytea)
))
EXECUTE FUNCTION events_stay();

-- Where the log ends and begins. The lock of this row orders the links.
CREATE TABLE event_chain (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Names the log in its signed heads.
    origin uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Of the last event that is linked. A recovery leaps ahead, so that no place is given twice.
    sequence bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    linked_at timestamptz,
    -- Of the last event of the prefix that the purge removes or has removed.
    cut_sequence bigint NOT NULL DEFAULT 0,
    cut_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    CONSTRAINT event_chain_in_order CHECK (sequence >= cut_sequence AND cut_sequence >= 0),
    CONSTRAINT event_chain_lengths CHECK (octet_length(hash) = 32 AND octet_length(cut_hash) = 32)
);

INSERT INTO event_chain DEFAULT VALUES;

-- Signed heads: the log up to an event had this hash at this time.
CREATE TABLE event_heads (
    sequence bigint PRIMARY KEY,
    hash bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    -- The checkpoint with its signature.
    note text NOT NULL,
    CONSTRAINT event_heads_hash_length CHECK (octet_length(hash) = 32)
);
