-- Webhooks: endpoints that events are sent to.
CREATE TABLE webhooks (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    url TEXT NOT NULL,
    -- The types of events that it hears, as an array of JSON; `*` stands for all.
    types TEXT NOT NULL CHECK (json_type(types) = 'array' AND json_array_length(types) > 0),
    -- How deliveries are signed: v1 is HMAC-SHA256, v1a is Ed25519.
    signature TEXT NOT NULL CHECK (signature IN ('v1', 'v1a')),
    -- Sealed.
    secret BLOB NOT NULL,
    key_id TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    -- Why it is not active, where no caller paused it.
    reason TEXT,
    -- The place of the last event that became a delivery, or was passed over.
    last_sequence INTEGER NOT NULL CHECK (last_sequence >= 0),
    created_at INTEGER NOT NULL
) STRICT;

-- The events that each webhook is given. What is sent is made of the event itself.
CREATE TABLE webhook_deliveries (
    webhook BLOB NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    event BLOB NOT NULL CHECK (length(event) = 16),
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    -- When the next attempt is due. What makes it moves this on first.
    next_at INTEGER,
    created_at INTEGER NOT NULL,
    -- Of the last attempt.
    attempted_at INTEGER,
    status INTEGER,
    error TEXT,
    PRIMARY KEY (webhook, sequence),
    CHECK ((state = 'pending') = (next_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- What is due, for each webhook apart: one with very much does not hold back the others.
CREATE INDEX webhook_deliveries_next ON webhook_deliveries (webhook, next_at)
WHERE state = 'pending';
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook, sequence)
WHERE state = 'dead';
-- The purge, and how long the oldest waits.
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (state, created_at);
