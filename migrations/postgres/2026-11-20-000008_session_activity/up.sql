-- How exactly activity is written down: where a session may idle, to 5 seconds or a tenth of its
-- timeout, whichever is less; where none decides anything by it, to a minute. A claim that writes
-- it down rewrites the session's row beside its own.
CREATE OR REPLACE FUNCTION session_granularity(idle_timeout_seconds integer) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN idle_timeout_seconds IS NULL THEN interval '1 minute'
        ELSE least(interval '5 seconds', idle_timeout_seconds * interval '100 milliseconds')
    END;
