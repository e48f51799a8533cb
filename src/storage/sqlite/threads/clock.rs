//! The database's clock. SQLite has none of its own, so this is the machine's, which may be wrong.
//!
//! When the machine's clock is set ahead, this clock follows. When it is set back, this clock
//! continues from its old time until [`Clock`] accepts the earlier time; after a small step back,
//! it stands still. This clock does not keep purged nonces from being accepted again: the record of
//! the purge (`sqlite::history`) does. So a clock that is set right can be followed at once.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, TOLERANCE};
use crate::domain::Timestamp;

pub(super) struct DatabaseClock {
    clock: Clock,
    /// The time that was returned last, in microseconds.
    mark: AtomicI64,
}

impl DatabaseClock {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, mark: AtomicI64::new(i64::MIN) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let (wall, believed) = (self.clock.now(), self.clock.believed());
        let now = if believed - wall > TOLERANCE { believed } else { wall };
        let micros = now.timestamp_micros();
        let mark = self.mark.fetch_max(micros, Ordering::Relaxed);
        if mark <= micros {
            return now;
        }
        match chrono::DateTime::from_timestamp_micros(mark) {
            Some(mark) if mark - now <= TOLERANCE => mark,
            _ => {
                // The clock was ahead, and is right again.
                let _ =
                    self.mark.compare_exchange(mark, micros, Ordering::Relaxed, Ordering::Relaxed);
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;

    fn clocks() -> (Clock, DatabaseClock) {
        let system = Clock::system();
        (system.clone(), DatabaseClock::new(system))
    }

    #[test]
    fn follows_the_system_forwards_and_back_to_what_is_right() {
        let (system, clock) = clocks();
        let before = clock.now();
        system.step(Duration::hours(48));
        assert!(clock.now() - before >= Duration::hours(48));
        system.step(Duration::hours(-48));
        let after = clock.now();
        assert!(after >= before && after - before < Duration::minutes(1), "{before} {after}");
    }

    #[test]
    fn stands_still_for_a_small_step_back() {
        let (system, clock) = clocks();
        let before = clock.now();
        system.step(Duration::seconds(-30));
        assert_eq!(clock.now(), before);
        system.pass(Duration::seconds(31));
        assert!(clock.now() > before);
    }

    #[test]
    fn goes_on_when_the_system_is_set_back_until_that_is_believed() {
        let (system, clock) = clocks();
        system.pass(Duration::days(1));
        assert_eq!(system.jump(), None);
        let before = clock.now();
        system.step(Duration::hours(-5));
        assert!(system.jump().is_some());
        system.pass(Duration::minutes(9));
        assert!(clock.now() - before >= Duration::minutes(9));
        system.pass(Duration::minutes(1));
        assert_eq!(system.jump(), None);
        assert!(before - clock.now() > Duration::hours(4));
    }
}
