//! The targets, and whether they are met.

use crate::bench::Sample;
use crate::figures::Spread;
use crate::results::Results;

pub struct Target {
    pub what: String,
    /// The measured number should be at least, or at most, the two others.
    pub at_least: bool,
    pub must: f64,
    pub goal: f64,
    pub unit: &'static str,
    /// What keeps it from being better, as measured; the table says it where the goal is missed.
    pub bounded_by: &'static str,
    /// `None` when it was not measured this time.
    pub measured: Option<Spread>,
}

impl Target {
    fn reaches(&self, bound: f64) -> Option<bool> {
        let median = self.measured?.median;
        Some(if self.at_least { median >= bound } else { median <= bound })
    }

    /// With what was measured, and what bounds it.
    #[must_use]
    pub fn is(self, measured: Option<Spread>, bounded_by: &'static str) -> Self {
        Self { bounded_by, measured, ..self }
    }

    /// What bounds it, where the goal is missed.
    pub fn missed_for(&self) -> &'static str {
        if self.reaches(self.goal) == Some(false) { self.bounded_by } else { "" }
    }

    pub fn judgement(&self) -> &'static str {
        match (self.reaches(self.must), self.reaches(self.goal)) {
            (Some(true), Some(true)) => "goal met",
            (Some(true), _) => "must met, goal missed",
            (Some(false), _) => "must MISSED",
            (None, _) => "not measured",
        }
    }

    pub fn bound(&self, bound: f64) -> String {
        format!("{} {}{}", if self.at_least { "≥" } else { "≤" }, short(bound), self.unit)
    }
}

/// A number that should be at least these.
pub fn at_least(what: impl Into<String>, must: f64, goal: f64) -> Target {
    let (what, unit, bounded_by) = (what.into(), "", "");
    Target { what, at_least: true, must, goal, unit, bounded_by, measured: None }
}

/// A number that should be at most these.
pub fn at_most(what: impl Into<String>, must: f64, goal: f64, unit: &'static str) -> Target {
    Target { at_least: false, unit, ..at_least(what, must, goal) }
}

/// Two digits of a small number, none of a large one.
pub fn short(number: f64) -> String {
    match number.abs() {
        10_000.0.. => format!("{:.0} k", number / 1e3),
        10.0.. => format!("{number:.0}"),
        _ => format!("{number:.2}"),
    }
}

/// What bounds the rows of `make bench`. `docs/performance.md` has the measurements.
mod bounds {
    pub const CLAIM: &str = "HTTP, half of a claim's CPU; the database, two fifths; for a quarter \
                             of the time each waits for the other";
    pub const TWO_PROCESSES: &str = "HTTP instead of a protocol of a few bytes; a B-tree insert \
                                     instead of an append";
    pub const SQLITE: &str = "one writer, a page written for each nonce; p99 by its checkpoints";
    pub const SESSIONS: &str = "an opening inserts into the table and ten indexes";
    pub const READINGS: &str = "a query for each group of readings, because no session is cached";
    pub const CACHED: &str = "the DID's document is written into each answer";
    pub const VERDICTS: &str = "few verdicts share a commit: a core verifies fewer than ten \
                                signatures while the disk writes";
    pub const RECORDS: &str =
        "base64, JSON and SHA-256 of 10 kB over HTTP, which pgbench does not have";
    pub const PAGES: &str = "each page begins by a look into an index";
    pub const MEMORY: &str = "buffers of connections, and SQLite's page cache";
    pub const START: &str = "opening the database, and looking at its migrations";
}

/// Of `make bench`.
pub fn compared(results: &Results) -> Vec<Target> {
    const POSTGRES: &str = "claims/onceguard-postgresql/64";
    const SQLITE: &str = "claims/onceguard-sqlite/64";
    const CEILING: &str = "claims/bare/64";
    const REDIS: &str = "claims/redis-always/64";
    const READS: &str = "reads/bare/64";
    let rate = |a, b| results.ratio(a, b, |sample| sample.per_second);
    let memory = |id| results.of(id, |sample| sample.memory.unwrap_or(f64::NAN));
    let verdicts = |id| results.figure_ratio(id, "verdicts/ed25519/bare");
    let per_core = |a, b| {
        let cpu = |sample: &Sample| {
            sample.server_cpu.unwrap_or(0.0) + sample.database_cpu.unwrap_or(f64::NAN)
        };
        results.ratio(a, b, move |sample| 1.0 / cpu(sample))
    };
    let p99 = results.ratio(POSTGRES, REDIS, |sample| sample.p99);
    let batches = rate("batches/onceguard-postgresql/8", "batches/redis-always/64");
    let turns = rate("sessions/onceguard-postgresql/64", POSTGRES);
    let of_postgres = rate("reads/session-postgresql/64", READS);
    let of_sqlite = rate("reads/session-sqlite/64", READS);
    vec![
        at_least("claims on PostgreSQL, of the HTTP ceiling", 0.35, 0.45)
            .is(rate(POSTGRES, CEILING), bounds::CLAIM),
        at_least("… of Redis, appendfsync always", 0.55, 0.7)
            .is(rate(POSTGRES, REDIS), bounds::TWO_PROCESSES),
        at_most("… p99, of that of Redis, appendfsync always", 2.0, 1.5, "")
            .is(p99, bounds::TWO_PROCESSES),
        at_least("… of pgbench, single rows", 2.6, 4.0)
            .is(rate(POSTGRES, "claims/pgbench/64"), bounds::CLAIM),
        at_least("… of one INSERT per request", 3.5, 6.0)
            .is(rate(POSTGRES, "claims/naive/64"), bounds::CLAIM),
        at_least("batches of 256 on PostgreSQL, of Redis, always, pipelines of 16", 0.8, 1.2)
            .is(batches, bounds::TWO_PROCESSES),
        at_least("claims on SQLite, of the HTTP ceiling", 0.35, 0.45)
            .is(rate(SQLITE, CEILING), bounds::SQLITE),
        at_most("… p99", 8.0, 5.0, " ms").is(results.of(SQLITE, |s| s.p99), bounds::SQLITE),
        at_least("sessions opened and ended on PostgreSQL, calls, of single claims", 0.5, 0.7)
            .is(turns, bounds::SESSIONS),
        at_least("session read on PostgreSQL, of the HTTP ceiling", 0.5, 0.7)
            .is(of_postgres, bounds::READINGS),
        at_least("… on SQLite", 0.6, 0.8).is(of_sqlite, bounds::READINGS),
        at_least("DID in the cache, of the HTTP ceiling", 0.85, 0.95)
            .is(rate("reads/did/64", READS), bounds::CACHED),
        at_least("verdict without the claim, of the bare check (Ed25519)", 0.9, 0.95)
            .is(verdicts("verdicts/ed25519/unclaimed"), bounds::VERDICTS),
        at_least("… with the claim", 0.65, 0.8)
            .is(verdicts("verdicts/ed25519/claimed"), bounds::VERDICTS),
        at_least("a record of 10 kB written on PostgreSQL, of pgbench, per core", 0.6, 0.8)
            .is(per_core("records/put-postgresql/64", "records/put-pgbench/64"), bounds::RECORDS),
        at_least("… read", 0.6, 0.8)
            .is(per_core("records/get-postgresql/64", "records/get-pgbench/64"), bounds::RECORDS),
        at_least("a page after 50,000 records on PostgreSQL, of the first", 0.8, 0.95).is(
            rate("records/list-middle-postgresql/8", "records/list-first-postgresql/8"),
            bounds::PAGES,
        ),
        at_least("… on SQLite", 0.8, 0.95)
            .is(rate("records/list-middle-sqlite/8", "records/list-first-sqlite/8"), bounds::PAGES),
        at_most("memory, idle, SQLite", 30.0, 15.0, " MiB")
            .is(results.figure("memory/sqlite"), bounds::MEMORY),
        at_most("… PostgreSQL", 30.0, 15.0, " MiB")
            .is(results.figure("memory/postgresql"), bounds::MEMORY),
        at_most("memory, 256 connections at full load, SQLite", 60.0, 40.0, " MiB")
            .is(memory("claims/onceguard-sqlite/256"), bounds::MEMORY),
        at_most("… PostgreSQL", 60.0, 40.0, " MiB")
            .is(memory("claims/onceguard-postgresql/256"), bounds::MEMORY),
        at_most("start to ready on an existing SQLite database", 300.0, 100.0, " ms")
            .is(results.figure("start/sqlite"), bounds::START),
    ]
}
