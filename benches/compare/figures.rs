//! Measurements with one number instead of a load: verdicts of a core, memory, the start. Also the
//! medians of several rounds.

use crate::Result;
use crate::bench::Bench;
use crate::{onceguard, verdicts};

/// Figures that are measured together. Each gives one number.
pub struct Group {
    pub figures: &'static [Figure],
    pub run: fn(&Bench) -> Result<Vec<f64>>,
}

pub struct Figure {
    pub id: &'static str,
    pub what: &'static str,
    pub unit: &'static str,
}

const fn figure(id: &'static str, what: &'static str, unit: &'static str) -> Figure {
    Figure { id, what, unit }
}

const CORE: &str = "per s of a core";

pub const GROUPS: [Group; 3] = [
    Group {
        figures: &[
            figure("verdicts/ed25519/bare", "Ed25519: the bare strict check, key parsed", CORE),
            figure("verdicts/ed25519/unclaimed", "Ed25519: verdict without the claim", CORE),
            figure("verdicts/ed25519/claimed", "Ed25519: verdict, claim on SQLite", CORE),
            figure("verdicts/p256/bare", "P-256: the bare check, key parsed", CORE),
            figure("verdicts/p256/unclaimed", "P-256: verdict without the claim", CORE),
            figure("verdicts/p256/claimed", "P-256: verdict, claim on SQLite", CORE),
            figure("verdicts/secp256k1/bare", "secp256k1: the bare check, key parsed", CORE),
            figure("verdicts/secp256k1/unclaimed", "secp256k1: verdict without the claim", CORE),
            figure("verdicts/secp256k1/claimed", "secp256k1: verdict, claim on SQLite", CORE),
        ],
        run: verdicts::per_second_of_a_core,
    },
    Group {
        figures: &[
            figure("memory/sqlite", "resident memory, idle, on SQLite", "MiB"),
            figure("memory/postgresql", "resident memory, idle, on PostgreSQL", "MiB"),
        ],
        run: onceguard::idle_memory,
    },
    Group {
        figures: &[figure("start/sqlite", "start to ready, existing SQLite database", "ms")],
        run: onceguard::start,
    },
];

/// The median of some rounds, and their spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// `None` without any round.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }
}
