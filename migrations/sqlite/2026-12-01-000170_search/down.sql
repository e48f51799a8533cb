DROP TRIGGER dids_updated;
DROP TRIGGER sessions_words_leave_metadata;
DROP TRIGGER sessions_words_leave;
DROP TRIGGER dids_words_leave;
DROP INDEX sessions_without_words;
DROP INDEX dids_without_words;
DROP INDEX sessions_words;
DROP INDEX dids_words;
ALTER TABLE sessions DROP COLUMN words;
ALTER TABLE dids DROP COLUMN words;
DROP TABLE search;

CREATE TRIGGER dids_updated AFTER UPDATE ON dids
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE dids
    SET updated_at = max(OLD.updated_at, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    WHERE did = NEW.did;
END;
