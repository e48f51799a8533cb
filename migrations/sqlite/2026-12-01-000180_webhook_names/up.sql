-- The name that the configuration gives a webhook.
ALTER TABLE webhooks ADD COLUMN name TEXT;
CREATE UNIQUE INDEX webhooks_name ON webhooks (name);
