-- The words that DIDs and sessions are found by. The service splits texts into words, because both
-- databases must hold the same ones: here, spaces separate them, and `ascii` splits at nothing else
-- that they could have.
CREATE VIRTUAL TABLE search USING fts5 (words, tokenize = 'ascii', detail = 'none');
-- What is erased leaves no trace in the index.
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);

-- The row of `search`. NULL where there are no words to find: a session without metadata is in no
-- index of these, and costs nothing.
ALTER TABLE dids ADD COLUMN words INTEGER;
ALTER TABLE sessions ADD COLUMN words INTEGER;

CREATE UNIQUE INDEX dids_words ON dids (words) WHERE words IS NOT NULL;
CREATE UNIQUE INDEX sessions_words ON sessions (words) WHERE words IS NOT NULL;

-- What was stored without its words: before this migration, by a restore, by hand. A job adds them.
CREATE INDEX dids_without_words ON dids (did) WHERE words IS NULL;
CREATE INDEX sessions_without_words ON sessions (id) WHERE words IS NULL AND metadata <> '{}';

-- Words leave with what they are of, also when it is changed by hand.
CREATE TRIGGER dids_words_leave AFTER DELETE ON dids
WHEN OLD.words IS NOT NULL
BEGIN
    DELETE FROM search WHERE rowid = OLD.words;
END;

CREATE TRIGGER sessions_words_leave AFTER DELETE ON sessions
WHEN OLD.words IS NOT NULL
BEGIN
    DELETE FROM search WHERE rowid = OLD.words;
END;

CREATE TRIGGER sessions_words_leave_metadata AFTER UPDATE OF metadata ON sessions
WHEN OLD.words IS NOT NULL AND NEW.metadata IS NOT OLD.metadata
BEGIN
    DELETE FROM search WHERE rowid = OLD.words;
    UPDATE sessions SET words = NULL WHERE number = NEW.number;
END;

-- That its words were added is no change of a DID.
DROP TRIGGER dids_updated;
CREATE TRIGGER dids_updated AFTER UPDATE ON dids
WHEN NEW.updated_at = OLD.updated_at AND NEW.words IS OLD.words
BEGIN
    UPDATE dids
    SET updated_at = max(OLD.updated_at, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    WHERE did = NEW.did;
END;
