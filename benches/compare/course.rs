//! The results of `make bench-overload` for one database: the answers, and their times.

use std::time::Duration;

use crate::load::{Event, Tally};
use crate::wire::Reply;

/// What is shown and judged as one.
pub const BIN: Duration = Duration::from_millis(100);

/// The results for one database.
pub struct Course {
    /// Requests a second in a closed loop, before and after.
    pub capacity: [f64; 2],
    pub tally: Tally,
    pub probes: Vec<Probe>,
    /// The beginning and end of the overload.
    pub overload: [Duration; 2],
}

/// An answer of the operations listener.
pub struct Probe {
    pub at: Duration,
    pub path: &'static str,
    pub latency: Duration,
}

impl Course {
    /// The answers in a bin, by their times.
    pub fn bins(&self) -> Vec<Vec<&Event>> {
        let mut bins = Vec::new();
        for event in &self.tally.events {
            let bin = ((event.due + event.latency).as_millis() / BIN.as_millis()) as usize;
            if bins.len() <= bin {
                bins.resize_with(bin + 1, Vec::new);
            }
            bins[bin].push(event);
        }
        bins
    }

    /// Answered within the overload, leaving out its first second.
    pub fn overloaded(&self, reply: Reply) -> Vec<&Event> {
        let from = self.overload[0] + Duration::from_secs(1);
        let within = |event: &&Event| {
            event.reply == reply && (from..self.overload[1]).contains(&(event.due + event.latency))
        };
        self.tally.events.iter().filter(within).collect()
    }

    pub fn mean_capacity(&self) -> f64 {
        f64::midpoint(self.capacity[0], self.capacity[1])
    }

    pub fn goodput(&self) -> f64 {
        let seconds = (self.overload[1] - self.overload[0]).as_secs_f64() - 1.0;
        self.overloaded(Reply::Done).len() as f64 / seconds
    }

    /// Seconds from the end of the overload until nothing is refused and nothing takes more than
    /// twice as long as the slowest request before it.
    pub fn recovery(&self) -> f64 {
        let before = self.tally.events.iter().filter(|event| event.due < self.overload[0]);
        let usual = quantile(before, 1.0);
        let troubled = |event: &&Event| {
            let answered = event.due + event.latency;
            answered >= self.overload[1]
                && (event.reply == Reply::Refused || milliseconds(event.latency) > 2.0 * usual)
        };
        let last = self.tally.events.iter().filter(troubled).map(|event| event.due + event.latency);
        last.max().map_or(0.0, |last| (last - self.overload[1]).as_secs_f64())
    }

    pub fn slowest(&self, path: &str) -> f64 {
        let during = self.overload[0]..self.overload[1];
        let probes = self.probes.iter();
        let latencies = probes
            .filter(|probe| probe.path == path && during.contains(&probe.at))
            .map(|probe| milliseconds(probe.latency));
        latencies.fold(0.0, f64::max)
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A quantile of latencies, in milliseconds; NaN of none.
pub fn quantile<'a>(events: impl Iterator<Item = &'a Event>, part: f64) -> f64 {
    let mut latencies: Vec<_> = events.map(|event| milliseconds(event.latency)).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let place = (latencies.len() as f64 * part) as usize;
    latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
