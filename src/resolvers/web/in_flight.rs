//! How many DIDs are read at the same time. What is too much is refused, not queued.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many DIDs of each host are being read.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<String, usize>>);

/// One DID that is being read, until it is dropped.
pub(super) struct Slot {
    in_flight: Arc<InFlight>,
    host: String,
}

/// The DID is not read now. The text goes on from the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    #[error("is not asked while {max} did:web are being read", max = InFlight::MAX)]
    Altogether,
    #[error("is not asked while {max} of its DIDs are being read", max = InFlight::MAX_OF_HOST)]
    OfHost,
}

impl InFlight {
    pub(super) const MAX: usize = 64;
    pub(super) const MAX_OF_HOST: usize = 4;

    /// Takes a slot of this host: a name with a port, since who can name a port that is silent
    /// must not keep the host's other DIDs from being read.
    ///
    /// # Errors
    /// [`TooMany`] when there is none.
    pub(super) fn enter(self: &Arc<Self>, host: &str) -> Result<Slot, TooMany> {
        let mut hosts = self.hosts();
        if hosts.values().sum::<usize>() >= Self::MAX {
            return Err(TooMany::Altogether);
        }
        let count = hosts.entry(host.to_owned()).or_default();
        if *count >= Self::MAX_OF_HOST {
            return Err(TooMany::OfHost);
        }
        *count += 1;
        Ok(Slot { in_flight: Arc::clone(self), host: host.to_owned() })
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut hosts = self.in_flight.hosts();
        if let Some(count) = hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let in_flight = Arc::new(InFlight::default());
        let mut slots: Vec<_> = (0..64)
            .map(|number| in_flight.enter(&format!("{}.example:443", number / 4)).ok())
            .collect();
        assert!(slots.iter().all(Option::is_some));
        assert_eq!(in_flight.enter("x.example:443").err(), Some(TooMany::Altogether));
        slots[0] = None;
        assert_eq!(in_flight.enter("1.example:443").err(), Some(TooMany::OfHost));
        slots[0] = in_flight.enter("0.example:443").ok();
        assert!(slots[0].is_some());
        slots.clear();
        assert!(in_flight.hosts().is_empty());
    }
}
