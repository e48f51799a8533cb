-- What became of this very database, and not of its data: where it was moved to, and where from.
-- It has no row, or one for each direction.
CREATE TABLE transfers (
    direction text PRIMARY KEY CHECK (direction IN ('to', 'from')),
    -- The same at both ends.
    id uuid NOT NULL,
    -- The other database, without user and password.
    peer text NOT NULL,
    -- From then on, a database that is moved `to` another takes no change any more.
    began_at timestamptz NOT NULL,
    -- From then on, it never will.
    moved_at timestamptz,
    -- When the other database was known to have everything.
    confirmed_at timestamptz,
    CONSTRAINT transfers_in_order CHECK (confirmed_at IS NULL OR moved_at IS NOT NULL)
);

-- A transfer puts it before every change of every table. So no statement asks whether the database
-- was moved, and those of an earlier onceguard or of a person are refused as well. The code is that
-- of a server that takes no writes.
CREATE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
        MESSAGE = 'the database takes no changes, because onceguard transfer moves or moved it';
END
$$;
