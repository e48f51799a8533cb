DROP TABLE record_shares;
DROP TABLE record_blobs;
DROP TABLE records;
DROP TABLE record_owners;
UPDATE api_tokens
SET scopes = (SELECT json_group_array(value) FROM json_each(scopes) WHERE value <> 'records')
WHERE EXISTS (SELECT 1 FROM json_each(scopes) WHERE value = 'records');
