-- What the database did in the past that its rows no longer show. It has one row.
CREATE TABLE history (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    -- The latest expiry of a signer's nonce that the purge removed. A claim that expires no later
    -- is refused, whatever the clock says: its nonce may have been removed.
    purged_until INTEGER
) STRICT;

-- Until now, the clock's own mark stood for that: nothing that was removed expired after it.
INSERT INTO history (purged_until) SELECT max(taken_at) FROM leases WHERE name = 'clock';
DELETE FROM leases WHERE name = 'clock';
