-- The words that DIDs and sessions are found by. The service splits texts into words, because both
-- databases must hold the same ones. NULL where there are none to find: a session without metadata is
-- in no index of these, and costs nothing.
ALTER TABLE dids ADD COLUMN words tsvector;
ALTER TABLE sessions ADD COLUMN words tsvector;

CREATE INDEX dids_words ON dids USING gin (words) WHERE words IS NOT NULL;
CREATE INDEX sessions_words ON sessions USING gin (words) WHERE words IS NOT NULL;

-- What was stored without its words: before this migration, by an older version, by a restore, by hand.
-- A job adds them.
CREATE INDEX dids_without_words ON dids (did) WHERE words IS NULL;
CREATE INDEX sessions_without_words ON sessions (id) WHERE words IS NULL AND metadata <> '{}';

-- Words leave with the metadata that they are of, also when it is changed by hand.
CREATE FUNCTION sessions_words_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.words := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER sessions_words_leave BEFORE UPDATE OF metadata ON sessions
    FOR EACH ROW WHEN (OLD.words IS NOT NULL AND OLD.metadata IS DISTINCT FROM NEW.metadata)
    EXECUTE FUNCTION sessions_words_leave();

-- That its words were added is no change of a DID.
DROP TRIGGER dids_updated ON dids;
CREATE TRIGGER dids_updated BEFORE UPDATE ON dids
    FOR EACH ROW WHEN (OLD.words IS NOT DISTINCT FROM NEW.words)
    EXECUTE FUNCTION dids_updated();
