ALTER TABLE history RENAME TO history_recovered;
CREATE TABLE history (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    purged_until INTEGER
) STRICT;
INSERT INTO history (purged_until) SELECT purged_until FROM history_recovered;
DROP TABLE history_recovered;
