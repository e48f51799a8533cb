CREATE INDEX signer_nonces_expiry ON signer_nonces (expires_at);
