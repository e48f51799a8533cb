//! The targets, and whether they are met.

use crate::figures::Spread;
use crate::results::Results;

pub struct Target {
    pub what: String,
    /// The measured number should be at least, or at most, the two others.
    pub at_least: bool,
    pub must: Option<f64>,
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
        let must = self.must.map_or(Some(true), |must| self.reaches(must));
        match (must, self.reaches(self.goal)) {
            (Some(true), Some(true)) => "goal met",
            (Some(true), Some(false)) if self.must.is_none() => "goal MISSED",
            (Some(true), Some(false)) => "must met, goal missed",
            (Some(false), _) => "must MISSED",
            _ => "not measured",
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

fn at_least(
    what: &'static str,
    must: Option<f64>,
    goal: f64,
    unit: &'static str,
    measured: Option<Spread>,
) -> Target {
    let what = what.to_owned();
    Target { what, at_least: true, must, goal, unit, measured }
}

fn at_most(
    what: &'static str,
    must: f64,
    goal: f64,
    unit: &'static str,
    measured: Option<Spread>,
) -> Target {
    let what = what.to_owned();
    Target { what, at_least: false, must: Some(must), goal, unit, measured }
}

/// Of `make bench`.
pub fn compared(results: &Results) -> Vec<Target> {
    const POSTGRES: &str = "claims/onceguard-postgresql/64";
    const SQLITE: &str = "claims/onceguard-sqlite/64";
    let rate = |a, b| results.ratio(a, b, |sample| sample.per_second);
    let memory = |id| results.of(id, |sample| sample.memory.unwrap_or(f64::NAN));
    vec![
        at_least(
            "claims on PostgreSQL, 64 connections, against Redis appendfsync always",
            Some(0.8),
            1.2,
            "",
            rate(POSTGRES, "claims/redis-always/64"),
        ),
        at_least(
            "… against pgbench, single rows, founding schema",
            Some(3.0),
            4.0,
            "",
            rate(POSTGRES, "claims/pgbench/64"),
        ),
        at_least(
            "… against one INSERT per request",
            Some(6.0),
            8.0,
            "",
            rate(POSTGRES, "claims/naive/64"),
        ),
        at_least(
            "… against the HTTP ceiling",
            Some(0.35),
            0.55,
            "",
            rate(POSTGRES, "claims/bare/64"),
        ),
        at_most(
            "… p99 against Redis appendfsync always",
            3.0,
            2.0,
            "",
            results.ratio(POSTGRES, "claims/redis-always/64", |sample| sample.p99),
        ),
        at_least(
            "claims on PostgreSQL in batches of 256",
            Some(100_000.0),
            150_000.0,
            " nonces/s",
            results.of("batches/onceguard-postgresql/8", |sample| sample.per_second),
        ),
        at_least(
            "claims on SQLite, 64 connections, against the HTTP ceiling",
            Some(0.33),
            0.45,
            "",
            rate(SQLITE, "claims/bare/64"),
        ),
        at_most("… p99", 15.0, 10.0, " ms", results.of(SQLITE, |sample| sample.p99)),
        at_least(
            "DID in the cache, against the HTTP ceiling",
            Some(0.8),
            0.9,
            "",
            rate("reads/did/64", "reads/bare/64"),
        ),
        at_least(
            "session read on PostgreSQL, against the HTTP ceiling",
            None,
            0.7,
            "",
            rate("reads/session-postgresql/64", "reads/bare/64"),
        ),
        at_least(
            "session read on SQLite, against the HTTP ceiling",
            None,
            0.7,
            "",
            rate("reads/session-sqlite/64", "reads/bare/64"),
        ),
        at_least(
            "verdict without the claim, against the bare strict check (Ed25519)",
            Some(0.8),
            0.9,
            "",
            results.figure_ratio("verdicts/ed25519/unclaimed", "verdicts/ed25519/bare"),
        ),
        at_least(
            "verdict with the claim, against the bare strict check (Ed25519)",
            Some(0.6),
            0.75,
            "",
            results.figure_ratio("verdicts/ed25519/claimed", "verdicts/ed25519/bare"),
        ),
        at_most("memory, idle, on SQLite", 30.0, 15.0, " MiB", results.figure("memory/sqlite")),
        at_most(
            "memory, idle, on PostgreSQL",
            30.0,
            15.0,
            " MiB",
            results.figure("memory/postgresql"),
        ),
        at_most(
            "memory, 256 connections at full load, PostgreSQL",
            80.0,
            50.0,
            " MiB",
            memory("claims/onceguard-postgresql/256"),
        ),
        at_most(
            "memory, 256 connections at full load, SQLite",
            80.0,
            50.0,
            " MiB",
            memory("claims/onceguard-sqlite/256"),
        ),
        at_most(
            "start to ready on an existing SQLite database",
            300.0,
            100.0,
            " ms",
            results.figure("start/sqlite"),
        ),
        // These two take long, so `make bench-scale` measures them.
        at_least("claims a second, 3·10⁷ live nonces against 10⁴", Some(0.6), 0.8, "", None),
        at_most("p99 of claims while 10⁶ nonces are purged, against without", 2.0, 1.3, "", None),
    ]
}
