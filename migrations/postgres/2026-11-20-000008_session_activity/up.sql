-- How exactly activity is written down: with an idle timeout, to 5 seconds or a tenth of it,
-- whichever is less; without one nothing is decided by it, and a minute is enough. A claim that
-- writes activity down rewrites its session's row, which costs as much as the claim itself.
CREATE OR REPLACE FUNCTION session_granularity(idle_timeout_seconds integer) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN idle_timeout_seconds IS NULL THEN interval '1 minute'
        ELSE least(interval '5 seconds', idle_timeout_seconds * interval '100 milliseconds')
    END;
