-- One instance at a time runs a job.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    taken_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    finished_at timestamptz
);
