DROP TABLE record_shares;
DROP TABLE record_blobs;
DROP TABLE records;
DROP TABLE record_owners;
UPDATE api_tokens SET scopes = array_remove(scopes, 'records') WHERE 'records' = ANY (scopes);
ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_scopes_known,
    ADD CONSTRAINT api_tokens_scopes_known CHECK (
        scopes <@ ARRAY[
            'sessions', 'session_keys', 'nonces', 'dids', 'revoke', 'verify', 'admin'
        ]
    );
