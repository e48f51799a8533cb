DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
UPDATE api_tokens
SET scopes = (
    SELECT json_group_array(value) FROM json_each(scopes) WHERE value <> 'webhooks'
)
WHERE EXISTS (SELECT 1 FROM json_each(scopes) WHERE value = 'webhooks');
