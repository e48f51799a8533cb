//! The process's own clock, injected so that tests can move it. It refuses early and measures
//! waits; what expires in the database is decided by the database's clock.
//!
//! It also notices when the wall clock jumps: when it parts from the time since the machine was
//! booted, which goes on while the machine sleeps and cannot be set. Nothing here decides what a
//! jump means for data; it only says that there was one, and which time is still believed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Duration};
use rustix::time::{ClockId, clock_gettime};

use crate::domain::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// A step of the wall clock up to this is no jump. It is the least margin that the purge keeps
/// (`claims.purge_margin_seconds`), so that no such step has a nonce purged too early.
pub const TOLERANCE: Duration = Duration::seconds(60);
/// A jump is believed when the wall clock has stood by it for so long. A process that is younger
/// believes a jump at once: it began by what the clock said, and a machine that has just booted
/// sets its clock soon.
pub const BELIEVED_AFTER: Duration = Duration::minutes(10);

/// The clock that goes on while the machine sleeps, where the system has one.
#[cfg(target_os = "linux")]
const SINCE_BOOT: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

/// Gives the time in UTC, with microseconds. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

/// All in microseconds.
#[derive(Debug)]
struct Inner {
    /// Added to the wall clock and to the time since boot. Only tests set them.
    wall_offset: AtomicI64,
    boot_offset: AtomicI64,
    /// When this clock was made, since boot.
    made: i64,
    /// By how much the wall clock is ahead of the time since boot, as far as it is believed.
    ahead: AtomicI64,
    jump: Mutex<Option<Jump>>,
}

/// A jump that is not believed yet.
#[derive(Debug, Clone, Copy)]
struct Jump {
    ahead: i64,
    /// Since boot.
    noticed: i64,
}

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        let made = since_boot();
        Self(Arc::new(Inner {
            wall_offset: AtomicI64::new(0),
            boot_offset: AtomicI64::new(0),
            made,
            ahead: AtomicI64::new(wall().timestamp_micros().saturating_sub(made)),
            jump: Mutex::new(None),
        }))
    }

    /// What the wall clock says, whether it jumped or not.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let offset = self.0.wall_offset.load(Ordering::Relaxed);
        let now = wall() + Duration::microseconds(offset);
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// What the wall clock would say if it had not jumped since it was last believed.
    #[must_use]
    pub fn believed(&self) -> Timestamp {
        let ahead = self.0.ahead.load(Ordering::Relaxed);
        let micros = self.since_boot().saturating_add(ahead);
        DateTime::from_timestamp_micros(micros).unwrap_or_else(|| self.now())
    }

    /// Looks at the wall clock: by how much it jumped, forwards or (negative) back, while that is
    /// not believed. To be called every second or so: what it sees is believed in time, and small
    /// steps do not add up to a jump.
    #[must_use]
    pub fn jump(&self) -> Option<Duration> {
        let since_boot = self.since_boot();
        let ahead = self.now().timestamp_micros().saturating_sub(since_boot);
        let believed = self.0.ahead.load(Ordering::Relaxed);
        let mut jump = self.0.jump.lock().unwrap_or_else(PoisonError::into_inner);
        *jump = match *jump {
            _ if near(ahead, believed) => None,
            Some(known) if near(ahead, known.ahead) => Some(known),
            _ => Some(Jump { ahead, noticed: since_boot }),
        };
        let settled = BELIEVED_AFTER.num_microseconds().unwrap_or(i64::MAX);
        let young = since_boot - self.0.made < settled;
        if jump.is_none_or(|jump| young || since_boot - jump.noticed >= settled) {
            self.0.ahead.store(ahead, Ordering::Relaxed);
            *jump = None;
        }
        jump.map(|jump| Duration::microseconds(jump.ahead - believed))
    }

    /// Lets time pass on this clock and on every clone of it.
    pub fn pass(&self, time: Duration) {
        self.0.boot_offset.fetch_add(micros(time), Ordering::Relaxed);
        self.step(time);
    }

    /// Sets the wall clock ahead (or back) by this, as an operator or NTP does.
    pub fn step(&self, by: Duration) {
        self.0.wall_offset.fetch_add(micros(by), Ordering::Relaxed);
    }

    fn since_boot(&self) -> i64 {
        since_boot() + self.0.boot_offset.load(Ordering::Relaxed)
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall() -> Timestamp {
    chrono::Utc::now()
}

fn since_boot() -> i64 {
    let time = clock_gettime(SINCE_BOOT);
    time.tv_sec.saturating_mul(MICROS_PER_SECOND).saturating_add(time.tv_nsec / 1_000)
}

fn near(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= TOLERANCE.num_microseconds().unwrap_or(0).unsigned_abs()
}

fn micros(duration: Duration) -> i64 {
    duration.num_microseconds().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock of a process that has run for long.
    fn old() -> Clock {
        let clock = Clock::system();
        clock.pass(Duration::days(1));
        assert_eq!(clock.jump(), None);
        clock
    }

    #[track_caller]
    fn assert_jumped(clock: &Clock, hours: i64) {
        let by = clock.jump().expect("a jump");
        assert!((by - Duration::hours(hours)).abs() < Duration::minutes(1), "{by}");
        assert!((clock.now() - clock.believed() - by).abs() < Duration::minutes(1));
    }

    #[test]
    fn time_that_passes_is_no_jump_and_neither_is_a_small_step() {
        let clock = old();
        let before = clock.now();
        clock.pass(Duration::hours(5));
        assert!(clock.now() - before >= Duration::hours(5));
        assert_eq!(clock.jump(), None);
        // However many there are.
        for _ in 0..10 {
            clock.step(Duration::seconds(50));
            assert_eq!(clock.jump(), None);
        }
        assert!((clock.now() - clock.believed()).abs() < Duration::minutes(1));
    }

    #[test]
    fn a_jump_is_noticed_until_it_is_taken_back() {
        for hours in [48, -48] {
            let clock = old();
            clock.step(Duration::hours(hours));
            assert_jumped(&clock, hours);
            clock.pass(Duration::seconds(6));
            assert_jumped(&clock, hours);
            clock.step(Duration::hours(-hours));
            assert_eq!(clock.jump(), None);
        }
    }

    #[test]
    fn a_jump_is_believed_when_it_has_stood() {
        let clock = old();
        clock.step(Duration::hours(-3));
        assert_jumped(&clock, -3);
        clock.pass(Duration::minutes(9));
        assert_jumped(&clock, -3);
        // Another jump has to stand from the beginning.
        clock.step(Duration::hours(5));
        assert_jumped(&clock, 2);
        clock.pass(Duration::minutes(9));
        assert_jumped(&clock, 2);
        clock.pass(Duration::minutes(1));
        assert_eq!(clock.jump(), None);
        assert!((clock.now() - clock.believed()).abs() < Duration::minutes(1));
    }

    #[test]
    fn a_young_process_believes_at_once() {
        let clock = Clock::system();
        clock.step(Duration::hours(-3));
        assert_eq!(clock.jump(), None);
        assert!((clock.now() - clock.believed()).abs() < Duration::minutes(1));
    }
}
