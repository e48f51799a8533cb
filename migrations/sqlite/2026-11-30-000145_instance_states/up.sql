-- An instance can also have ended by a fault of its own, such as a start that failed.
CREATE TABLE instances_new (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- The address of its API.
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    -- When it ended, in order or by a fault.
    ended_at INTEGER,
    state TEXT NOT NULL CHECK (state IN ('serving', 'stopped', 'failed')),
    -- Counts heartbeats. An instance remembers the last that was acknowledged: a database that has
    -- fewer has lost it, and what came after it.
    counter INTEGER NOT NULL,
    CHECK ((ended_at IS NULL) = (state = 'serving'))
) STRICT, WITHOUT ROWID;

INSERT INTO instances_new (id, name, host, version, started_at, heartbeat_at, ended_at, state, counter)
SELECT id, name, host, version, started_at, heartbeat_at, ended_at, state, counter FROM instances;

DROP TABLE instances;

ALTER TABLE instances_new RENAME TO instances;
