DROP TABLE sealing_keys;
DROP TABLE audit_events;
DROP FUNCTION audit_events_stay();
DROP TABLE api_tokens;
