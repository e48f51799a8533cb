-- Webhooks: endpoints that events are sent to.
CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    url text NOT NULL,
    -- The types of events that it hears; `*` stands for all.
    types text[] NOT NULL,
    -- How deliveries are signed: v1 is HMAC-SHA256, v1a is Ed25519.
    signature text NOT NULL,
    -- Sealed.
    secret bytea NOT NULL,
    key_id text NOT NULL,
    state text NOT NULL DEFAULT 'active',
    -- Why it is not active, where no caller paused it.
    reason text,
    -- The place of the last event that became a delivery, or was passed over.
    last_sequence bigint NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT webhooks_hear_something CHECK (cardinality(types) > 0),
    CONSTRAINT webhooks_signature_known CHECK (signature IN ('v1', 'v1a')),
    CONSTRAINT webhooks_state_known CHECK (state IN ('active', 'paused', 'disabled')),
    CONSTRAINT webhooks_last_sequence_counted CHECK (last_sequence >= 0)
);

-- The events that each webhook is given. What is sent is made of the event itself.
CREATE TABLE webhook_deliveries (
    webhook uuid NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    sequence bigint NOT NULL,
    event uuid NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    -- When the next attempt is due. An instance that makes it moves this on first.
    next_at timestamptz,
    created_at timestamptz NOT NULL,
    -- Of the last attempt.
    attempted_at timestamptz,
    status integer,
    error text,
    PRIMARY KEY (webhook, sequence),
    CONSTRAINT webhook_deliveries_state_known CHECK (state IN ('pending', 'delivered', 'dead')),
    CONSTRAINT webhook_deliveries_due CHECK ((state = 'pending') = (next_at IS NOT NULL))
);

-- What is due, for each webhook apart: one with very much does not hold back the others.
CREATE INDEX webhook_deliveries_next ON webhook_deliveries (webhook, next_at)
WHERE state = 'pending';
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook, sequence)
WHERE state = 'dead';
-- The purge, and how long the oldest waits.
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (state, created_at);

ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_scopes_known,
    ADD CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'records', 'events',
            'audit', 'webhooks', 'admin'
        ]
    );
