DROP TRIGGER sessions_take_their_nonces ON sessions;
DROP FUNCTION sessions_take_their_nonces();
DELETE FROM nonces WHERE NOT EXISTS (SELECT FROM sessions WHERE id = session_id);
ALTER TABLE nonces ADD CONSTRAINT nonces_session_id_fkey
    FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE;
