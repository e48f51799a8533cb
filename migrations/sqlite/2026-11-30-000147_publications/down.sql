DROP TABLE publications;
UPDATE api_tokens
SET scopes = (
    SELECT json_group_array(value) FROM json_each(scopes) WHERE value NOT IN ('events', 'audit')
)
WHERE EXISTS (SELECT 1 FROM json_each(scopes) WHERE value IN ('events', 'audit'));
