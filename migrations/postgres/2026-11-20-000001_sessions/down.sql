DROP TABLE nonces;
DROP TABLE sessions;
DROP FUNCTION session_over_reason(timestamptz, timestamptz, integer);
DROP FUNCTION session_over_at(timestamptz, timestamptz, integer);
DROP FUNCTION session_granularity(integer);
