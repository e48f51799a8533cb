-- Which server the database is on. A copy of the data, or a server that was promoted, is another. A
-- migration that makes the table `nonces` anew has to set `nonces_oid` in the same transaction.
CREATE FUNCTION server_identity(
    OUT system_identifier bigint, OUT timeline integer, OUT database_oid bigint, OUT nonces_oid bigint
) LANGUAGE sql VOLATILE AS $$
    SELECT (SELECT c.system_identifier FROM pg_control_system() AS c),
        -- `pg_control_checkpoint()` lags after a promotion.
        ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer,
        (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
        to_regclass('nonces')::oid::bigint
$$;

ALTER TABLE history
    ADD COLUMN system_identifier bigint,
    ADD COLUMN timeline integer,
    ADD COLUMN database_oid bigint,
    ADD COLUMN nonces_oid bigint,
    ADD CONSTRAINT history_server_whole CHECK (
        num_nulls(system_identifier, timeline, database_oid, nonces_oid) IN (0, 4)
    );

UPDATE history SET (system_identifier, timeline, database_oid, nonces_oid) =
    (SELECT s.system_identifier, s.timeline, s.database_oid, s.nonces_oid FROM server_identity() AS s);

-- The processes that serve, or have served in the last week.
CREATE TABLE instances (
    id uuid PRIMARY KEY,
    -- The address of its API.
    name text NOT NULL,
    host text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    -- When it ended, in order or by a fault such as a start that failed.
    ended_at timestamptz,
    state text NOT NULL,
    -- Counts heartbeats. An instance remembers the last that was acknowledged: a database that has
    -- fewer has lost it, and what came after it.
    counter bigint NOT NULL,
    -- The latest time that a message which it accepted states as its own.
    issued_until timestamptz,
    CONSTRAINT instances_state_known CHECK (state IN ('serving', 'stopped', 'failed')),
    CONSTRAINT instances_end_fits CHECK ((ended_at IS NULL) = (state = 'serving'))
) WITH (fillfactor = 50);

-- Counts the transactions that each open connection of an instance has decided in, so that the loss
-- of any of them is noticed. A heartbeat stands for those of a closed one, and the next removes the
-- row. No two transactions wait for each other here.
CREATE TABLE marks (
    id uuid PRIMARY KEY,
    instance uuid NOT NULL,
    value bigint NOT NULL
) WITH (fillfactor = 10);

-- Called in every transaction that decides. It fails on a connection that was not checked, or was
-- checked before the last recovery: then nothing of the transaction happens.
CREATE FUNCTION mark_commit() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('onceguard.checked', true) IS DISTINCT FROM
        (SELECT generation::text FROM history)
    THEN
        RAISE EXCEPTION 'onceguard: the connection is not checked';
    END IF;
    IF current_setting('onceguard.mark', true) <> '' THEN
        UPDATE marks SET value = value + 1 WHERE id = current_setting('onceguard.mark')::uuid;
        IF NOT FOUND THEN
            INSERT INTO marks (id, instance, value) VALUES (
                current_setting('onceguard.mark')::uuid,
                current_setting('onceguard.instance')::uuid, 1
            );
        END IF;
    END IF;
END
$$;
