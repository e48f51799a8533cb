DROP TABLE sealing_keys;
DROP TABLE audit_events;
DROP TABLE api_tokens;
