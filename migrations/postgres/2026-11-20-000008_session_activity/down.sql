CREATE OR REPLACE FUNCTION session_granularity(idle_timeout_seconds integer) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(interval '5 seconds', idle_timeout_seconds * interval '100 milliseconds');
