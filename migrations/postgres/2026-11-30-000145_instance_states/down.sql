UPDATE instances SET state = 'stopped' WHERE state = 'failed';

ALTER TABLE instances
    DROP CONSTRAINT instances_state_known,
    ADD CONSTRAINT instances_state_known CHECK (state IN ('serving', 'stopped'));
