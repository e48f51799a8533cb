-- One log: the audit trail, and what callers publish. Events are only ever added. One job gives those
-- that are committed their place and links them, so that a change of any of them shows.

CREATE TABLE events (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- Its place in the log. NULL until it is linked.
    sequence INTEGER UNIQUE CHECK (sequence > 0),
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    -- NULL once it is erased, as the actor.
    subject TEXT,
    actor TEXT,
    -- `success`, or the code of a refusal.
    outcome TEXT NOT NULL,
    request_id TEXT,
    at INTEGER NOT NULL,
    data TEXT NOT NULL DEFAULT '{}'
        CHECK (json_type(data) = 'object' AND length(CAST(data AS BLOB)) <= 32768),
    -- Hashed with the event, so that no event can be guessed from what is left of it. NULL once it is
    -- erased.
    salt BLOB CHECK (length(salt) = 16),
    -- SHA-256 of the salt and the event.
    commitment BLOB CHECK (length(commitment) = 32),
    -- SHA-256 of the hash of the event before and the commitment.
    hash BLOB CHECK (length(hash) = 32),
    CHECK ((sequence IS NULL) = (commitment IS NULL) AND (sequence IS NULL) = (hash IS NULL)),
    CHECK ((salt IS NOT NULL) = (sequence IS NOT NULL AND type <> 'onceguard.erased'))
) STRICT;

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

-- What is to be linked, in the order in which it is.
CREATE INDEX events_unlinked ON events (id) WHERE sequence IS NULL;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_failed ON events (at) WHERE outcome <> 'success';
CREATE INDEX events_type ON events (type, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_subject ON events (subject, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_actor ON events (actor, sequence) WHERE sequence IS NOT NULL;

-- An event changes only when it is linked and when it is erased. The purge deletes those past their
-- retention.
CREATE TRIGGER events_are_append_only BEFORE UPDATE ON events
WHEN NOT (
    OLD.sequence IS NULL AND NEW.sequence IS NOT NULL
    AND NEW.id = OLD.id AND NEW.type = OLD.type AND NEW.source = OLD.source
    AND NEW.subject IS OLD.subject AND NEW.actor IS OLD.actor AND NEW.outcome = OLD.outcome
    AND NEW.request_id IS OLD.request_id AND NEW.at = OLD.at AND NEW.data = OLD.data
) AND NOT (
    NEW.id = OLD.id AND NEW.sequence IS OLD.sequence AND NEW.at = OLD.at
    AND NEW.commitment IS OLD.commitment AND NEW.hash IS OLD.hash
    AND NEW.type = 'onceguard.erased' AND NEW.source = 'onceguard' AND NEW.subject IS NULL
    AND NEW.actor IS NULL AND NEW.outcome = 'success' AND NEW.request_id IS NULL
    AND NEW.data = '{}' AND NEW.salt IS NULL
)
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;

-- Where the log ends and begins.
CREATE TABLE event_chain (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    -- Names the log in its signed heads.
    origin BLOB NOT NULL CHECK (length(origin) = 16),
    -- Of the last event that is linked. A recovery leaps ahead, so that no place is given twice.
    sequence INTEGER NOT NULL DEFAULT 0,
    hash BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(hash) = 32),
    linked_at INTEGER,
    -- Of the last event of the prefix that the purge removes or has removed.
    cut_sequence INTEGER NOT NULL DEFAULT 0,
    cut_hash BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(cut_hash) = 32),
    CHECK (sequence >= cut_sequence AND cut_sequence >= 0)
) STRICT;

INSERT INTO event_chain (origin) VALUES (randomblob(16));

-- Signed heads: the log up to an event had this hash at this time.
CREATE TABLE event_heads (
    sequence INTEGER NOT NULL PRIMARY KEY,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    signed_at INTEGER NOT NULL,
    -- The checkpoint with its signature.
    note TEXT NOT NULL
) STRICT;
