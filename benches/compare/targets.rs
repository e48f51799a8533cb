//! The targets, and whether they are met.

use crate::figures::Spread;
use crate::results::Results;

pub struct Target {
    pub what: String,
    /// The measured number should be at least, or at most, the two others.
    pub at_least: bool,
    pub must: f64,
    pub goal: f64,
    pub unit: &'static str,
    /// `None` when it was not measured this time.
    pub measured: Option<Spread>,
}

impl Target {
    fn reaches(&self, bound: f64) -> Option<bool> {
        let median = self.measured?.median;
        Some(if self.at_least { median >= bound } else { median <= bound })
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

/// Two digits of a small number, none of a large one.
pub fn short(number: f64) -> String {
    match number.abs() {
        10_000.0.. => format!("{:.0} k", number / 1e3),
        10.0.. => format!("{number:.0}"),
        _ => format!("{number:.2}"),
    }
}

fn at_least(what: &str, must: f64, goal: f64, measured: Option<Spread>) -> Target {
    Target { what: what.to_owned(), at_least: true, must, goal, unit: "", measured }
}

fn at_most(
    what: &str,
    (must, goal): (f64, f64),
    unit: &'static str,
    measured: Option<Spread>,
) -> Target {
    Target { what: what.to_owned(), at_least: false, must, goal, unit, measured }
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
    vec![
        at_least("claims on PostgreSQL, of the HTTP ceiling", 0.35, 0.45, rate(POSTGRES, CEILING)),
        at_least("… of Redis, appendfsync always", 0.55, 0.7, rate(POSTGRES, REDIS)),
        at_most(
            "… p99, of that of Redis, appendfsync always",
            (2.0, 1.5),
            "",
            results.ratio(POSTGRES, REDIS, |sample| sample.p99),
        ),
        at_least("… of pgbench, single rows", 2.6, 4.0, rate(POSTGRES, "claims/pgbench/64")),
        at_least("… of one INSERT per request", 3.5, 6.0, rate(POSTGRES, "claims/naive/64")),
        at_least(
            "batches of 256 on PostgreSQL, of Redis, appendfsync always, in pipelines of 16",
            0.8,
            1.2,
            rate("batches/onceguard-postgresql/8", "batches/redis-always/64"),
        ),
        at_least("claims on SQLite, of the HTTP ceiling", 0.35, 0.45, rate(SQLITE, CEILING)),
        at_most("… p99", (8.0, 5.0), " ms", results.of(SQLITE, |sample| sample.p99)),
        at_least(
            "sessions opened and ended on PostgreSQL, calls, of single claims",
            0.5,
            0.7,
            rate("sessions/onceguard-postgresql/64", POSTGRES),
        ),
        at_least(
            "session read on PostgreSQL, of the HTTP ceiling",
            0.5,
            0.7,
            rate("reads/session-postgresql/64", READS),
        ),
        at_least("… on SQLite", 0.6, 0.8, rate("reads/session-sqlite/64", READS)),
        at_least("DID in the cache, of the HTTP ceiling", 0.85, 0.95, rate("reads/did/64", READS)),
        at_least(
            "verdict without the claim, of the bare check (Ed25519)",
            0.9,
            0.95,
            verdicts("verdicts/ed25519/unclaimed"),
        ),
        at_least("… with the claim", 0.65, 0.8, verdicts("verdicts/ed25519/claimed")),
        at_most("memory, idle, SQLite", (30.0, 15.0), " MiB", results.figure("memory/sqlite")),
        at_most("… PostgreSQL", (30.0, 15.0), " MiB", results.figure("memory/postgresql")),
        at_most(
            "memory, 256 connections at full load, SQLite",
            (60.0, 40.0),
            " MiB",
            memory("claims/onceguard-sqlite/256"),
        ),
        at_most("… PostgreSQL", (60.0, 40.0), " MiB", memory("claims/onceguard-postgresql/256")),
        at_most(
            "start to ready on an existing SQLite database",
            (300.0, 100.0),
            " ms",
            results.figure("start/sqlite"),
        ),
    ]
}
