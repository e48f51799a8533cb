DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
UPDATE api_tokens SET scopes = array_remove(scopes, 'webhooks') WHERE 'webhooks' = ANY (scopes);
ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_scopes_known,
    ADD CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'records', 'events',
            'audit', 'admin'
        ]
    );
