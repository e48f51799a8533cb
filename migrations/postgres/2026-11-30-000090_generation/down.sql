ALTER TABLE history
    DROP COLUMN generation,
    DROP COLUMN ancestors,
    DROP COLUMN recovered_at,
    DROP COLUMN not_before,
    DROP COLUMN ahead_until,
    DROP COLUMN skew_seconds;
