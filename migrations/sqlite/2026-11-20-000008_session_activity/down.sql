-- SQLite keeps its foreign key, which costs a claim next to nothing here.
SELECT 1;
