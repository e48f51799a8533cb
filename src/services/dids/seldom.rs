//! Log lines that strangers can cause: one a second, and how many there would have been.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// Something that is said at most once in [`EVERY`].
#[derive(Default)]
pub(super) struct Seldom {
    last: Mutex<Option<Instant>>,
    unsaid: AtomicU64,
}

impl Seldom {
    /// If it may be said now, how often it was not since it last was.
    pub(super) fn say(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < EVERY) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(Instant::now());
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.say(), Some(0));
        assert!((0..3).all(|_| seldom.say().is_none()));
        *seldom.last.lock().unwrap() = Instant::now().checked_sub(EVERY);
        assert_eq!(seldom.say(), Some(3));
    }
}
