-- An instance can also have ended by a fault of its own, such as a start that failed.
ALTER TABLE instances
    DROP CONSTRAINT instances_state_known,
    ADD CONSTRAINT instances_state_known CHECK (state IN ('serving', 'stopped', 'failed'));
