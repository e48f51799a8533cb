ALTER TABLE history
    DROP COLUMN generation,
    DROP COLUMN ancestors,
    DROP COLUMN recovered_at,
    DROP COLUMN not_before,
    DROP COLUMN skew_seconds;
