-- The calls with an Idempotency-Key that published events. A repeat gets the ids of the first call.
CREATE TABLE publications (
    -- Of the caller and its key.
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 16),
    -- Of what was published: the key is not for anything else.
    content BLOB NOT NULL CHECK (length(content) = 32),
    -- The ids, 16 bytes each, in the order of the call.
    events BLOB NOT NULL CHECK (length(events) % 16 = 0),
    at INTEGER NOT NULL
) STRICT;

-- The purge.
CREATE INDEX publications_at ON publications (at);
