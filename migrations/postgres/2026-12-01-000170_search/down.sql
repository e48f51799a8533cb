DROP TRIGGER dids_updated ON dids;
CREATE TRIGGER dids_updated BEFORE UPDATE ON dids
    FOR EACH ROW EXECUTE FUNCTION dids_updated();
DROP TRIGGER sessions_words_leave ON sessions;
DROP FUNCTION sessions_words_leave();
DROP INDEX dids_without_words, sessions_without_words;
ALTER TABLE dids DROP COLUMN words;
ALTER TABLE sessions DROP COLUMN words;
