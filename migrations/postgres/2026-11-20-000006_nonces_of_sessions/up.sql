-- Every claim joins its session in the statement that inserts its nonce, so a foreign key would
-- ask the same again, row by row: it took a fifth of the database's time for a claim. A trigger
-- keeps its other half: nonces leave with their session, whoever deletes it.
ALTER TABLE nonces DROP CONSTRAINT nonces_session_id_fkey;

CREATE FUNCTION sessions_take_their_nonces() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM nonces USING gone WHERE nonces.session_id = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_take_their_nonces AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION sessions_take_their_nonces();
