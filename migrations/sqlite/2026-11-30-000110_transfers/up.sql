-- What became of this very database, and not of its data: where it was moved to, and where from.
-- It has no row, or one for each direction. A transfer also makes triggers, which refuse every
-- change of every table.
CREATE TABLE transfers (
    direction TEXT NOT NULL PRIMARY KEY CHECK (direction IN ('to', 'from')),
    -- The same at both ends.
    id BLOB NOT NULL CHECK (length(id) = 16),
    -- The other database, without user and password.
    peer TEXT NOT NULL,
    -- From then on, a database that is moved `to` another takes no change any more.
    began_at INTEGER NOT NULL,
    -- From then on, it never will.
    moved_at INTEGER,
    -- When the other database was known to have everything.
    confirmed_at INTEGER,
    CHECK (confirmed_at IS NULL OR moved_at IS NOT NULL)
) STRICT, WITHOUT ROWID;
