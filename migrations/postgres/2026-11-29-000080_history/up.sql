-- What the database did in the past that its rows no longer show. It has one row.
CREATE TABLE history (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The latest expiry of a signer's nonce that the purge removed. A claim that expires no later
    -- is refused, whatever the clock says: its nonce may have been removed.
    purged_until timestamptz
);

-- Nothing that an earlier version removed had expired less than a minute ago.
INSERT INTO history (purged_until) VALUES (now() - interval '1 minute');
