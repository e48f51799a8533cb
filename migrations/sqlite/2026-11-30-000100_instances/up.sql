-- The processes that serve, or have served in the last week.
CREATE TABLE instances (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- The address of its API.
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    -- When it ended, in order or by a fault such as a start that failed.
    ended_at INTEGER,
    state TEXT NOT NULL CHECK (state IN ('serving', 'stopped', 'failed')),
    -- Counts heartbeats. An instance remembers the last that was acknowledged: a database that has
    -- fewer has lost it, and what came after it.
    counter INTEGER NOT NULL,
    -- The latest time that a message which it accepted states as its own.
    issued_until INTEGER,
    CHECK ((ended_at IS NULL) = (state = 'serving'))
) STRICT, WITHOUT ROWID;
