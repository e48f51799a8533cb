DROP TABLE publications;
UPDATE api_tokens SET scopes = array_remove(array_remove(scopes, 'events'), 'audit')
WHERE scopes && ARRAY['events', 'audit'];
ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_scopes_known,
    ADD CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'records', 'admin'
        ]
    );
