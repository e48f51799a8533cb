-- While a database's past is whole, it has one generation. A recovery, after the database went back
-- in time, begins another. The table is made anew, because a random default cannot be added.
CREATE TABLE history_rebuilt (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    -- The latest expiry of a signer's nonce that the purge removed. A claim that expires no later
    -- is refused, whatever the clock says: its nonce may have been removed.
    purged_until INTEGER,
    generation BLOB NOT NULL CHECK (length(generation) = 16),
    -- The generations before it, 16 bytes each, oldest first.
    ancestors BLOB NOT NULL DEFAULT x'' CHECK (length(ancestors) % 16 = 0),
    -- When this generation began, unless it is the first.
    recovered_at INTEGER,
    -- Nothing that was issued later was accepted before the recovery.
    not_before INTEGER,
    -- How far the clock had come, with the skew, when it was ahead. What does not say when it was
    -- issued may last as long as if it was issued then.
    ahead_until INTEGER,
    -- How far a signer's clock may be ahead: the most that any instance ever allowed.
    skew_seconds INTEGER NOT NULL DEFAULT 60 CHECK (skew_seconds >= 0),
    CHECK ((recovered_at IS NULL) = (not_before IS NULL))
) STRICT;

INSERT INTO history_rebuilt (purged_until, generation)
SELECT purged_until, randomblob(16) FROM history;
DROP TABLE history;
ALTER TABLE history_rebuilt RENAME TO history;
