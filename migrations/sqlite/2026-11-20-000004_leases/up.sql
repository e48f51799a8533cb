-- The newest `taken_at` is also how far the database's clock has come: a purge that removed
-- something never lets the clock start from an earlier time.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    finished_at INTEGER
) STRICT, WITHOUT ROWID;
