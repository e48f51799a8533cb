-- What callers published and the purge has not emptied, oldest first.
CREATE INDEX events_callers ON events (at, sequence)
WHERE source <> 'onceguard' AND sequence IS NOT NULL;
