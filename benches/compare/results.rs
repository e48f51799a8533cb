//! The results of the rounds of `make bench`.

use std::collections::BTreeMap;

use crate::bench::Sample;
use crate::figures::Spread;

/// The results of all rounds, by the rows' ids.
#[derive(Default)]
pub struct Results {
    pub samples: BTreeMap<String, Vec<Sample>>,
    pub figures: BTreeMap<&'static str, Vec<f64>>,
}

impl Results {
    pub fn of(&self, id: &str, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.get(id)?.iter().map(value))
    }

    pub fn figure(&self, id: &str) -> Option<Spread> {
        Spread::of(self.figures.get(id)?.iter().copied())
    }

    /// For each round by itself, because the rows of one round were measured at nearly the same
    /// time.
    pub fn ratio(&self, a: &str, b: &str, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let (a, b) = (self.samples.get(a)?, self.samples.get(b)?);
        Spread::of(a.iter().zip(b).map(|(a, b)| value(a) / value(b)))
    }

    pub fn figure_ratio(&self, a: &str, b: &str) -> Option<Spread> {
        let (a, b) = (self.figures.get(a)?, self.figures.get(b)?);
        Spread::of(a.iter().zip(b).map(|(a, b)| a / b))
    }
}
