-- While a database's past is whole, it has one generation. A recovery, after the database went back
-- in time, begins another.
ALTER TABLE history
    ADD COLUMN generation uuid NOT NULL DEFAULT gen_random_uuid(),
    -- The generations before it, oldest first.
    ADD COLUMN ancestors uuid[] NOT NULL DEFAULT '{}',
    -- When this generation began, unless it is the first.
    ADD COLUMN recovered_at timestamptz,
    -- Nothing that was issued later was accepted before the recovery.
    ADD COLUMN not_before timestamptz,
    -- How far the clock had come, with the skew, when it was ahead. What does not say when it was
    -- issued may last as long as if it was issued then.
    ADD COLUMN ahead_until timestamptz,
    -- How far a signer's clock may be ahead: the most that any instance ever allowed.
    ADD COLUMN skew_seconds integer NOT NULL DEFAULT 60,
    ADD CONSTRAINT history_recovered_whole CHECK ((recovered_at IS NULL) = (not_before IS NULL)),
    ADD CONSTRAINT history_skew_counted CHECK (skew_seconds >= 0);
