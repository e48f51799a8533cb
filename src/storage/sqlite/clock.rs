//! The database's clock. SQLite has none of its own, so this is the machine's, held to one rule:
//! it never goes back, neither within a process nor behind a purge that an earlier one recorded.
//! Otherwise a clock that was set back would reopen nonces that were removed as expired.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use diesel::prelude::*;

use crate::clock::Clock;
use crate::domain::Timestamp;

use super::errors::is_missing_table;
use super::schema::leases;
use super::types::MICROS_PER_SECOND;

/// The row of `leases` that keeps the time of the newest purge that removed something. No job
/// has this name.
const MARK: &str = "clock";

pub(super) struct DatabaseClock {
    clock: Clock,
    /// The latest time that was given out or found in the database, in microseconds.
    mark: AtomicI64,
    warned: AtomicBool,
}

impl DatabaseClock {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, mark: AtomicI64::new(i64::MIN), warned: AtomicBool::new(false) }
    }

    pub(super) fn now(&self) -> Timestamp {
        let system = self.clock.now();
        let micros = system.timestamp_micros();
        let mark = self.mark.fetch_max(micros, Ordering::Relaxed);
        if mark <= micros {
            return system;
        }
        if mark - micros > MICROS_PER_SECOND && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                behind_seconds = (mark - micros) / MICROS_PER_SECOND,
                "the system's clock is behind the time that this database has already seen; \
                 its time stands still until the clock catches up"
            );
        }
        chrono::DateTime::from_timestamp_micros(mark).unwrap_or(system)
    }

    /// Starts from what the database has seen, if that is later.
    pub(super) fn catch_up(&self, conn: &mut SqliteConnection) -> QueryResult<()> {
        let newest = leases::table.select(diesel::dsl::max(leases::taken_at)).first(conn);
        match newest {
            Ok(Some(micros)) => self.raise(micros),
            Ok(None) => {}
            // Before the first migration nothing was purged either.
            Err(error) if is_missing_table(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn raise(&self, micros: i64) {
        // A time that cannot be read back must not stop the clock for ever.
        if chrono::DateTime::from_timestamp_micros(micros).is_some() {
            self.mark.fetch_max(micros, Ordering::Relaxed);
        }
    }
}

/// Records how far the clock has come; part of every transaction that removes what has expired.
pub(super) fn record(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<()> {
    let now = now.timestamp_micros();
    diesel::insert_into(leases::table)
        .values((
            leases::name.eq(MARK),
            leases::holder.eq(MARK),
            leases::taken_at.eq(now),
            leases::until.eq(now),
        ))
        .on_conflict(leases::name)
        .do_update()
        .set((leases::taken_at.eq(now), leases::until.eq(now)))
        .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;

    #[test]
    fn follows_the_system_forwards() {
        let system = Clock::system();
        let clock = DatabaseClock::new(system.clone());
        let before = clock.now();
        system.shift(Duration::hours(2));
        assert!(clock.now() - before >= Duration::hours(2));
    }

    #[test]
    fn stands_still_when_the_system_goes_back_and_goes_on_when_it_has_caught_up() {
        let system = Clock::system();
        let clock = DatabaseClock::new(system.clone());
        let before = clock.now();
        system.shift(Duration::hours(-1));
        assert_eq!(clock.now(), before);
        assert!(clock.warned.load(Ordering::Relaxed));
        system.shift(Duration::hours(2));
        assert!(clock.now() > before);
    }

    #[test]
    fn starts_from_what_the_database_has_seen() {
        let system = Clock::system();
        let clock = DatabaseClock::new(system.clone());
        let seen = system.now() + Duration::hours(3);
        clock.raise(seen.timestamp_micros());
        assert_eq!(clock.now(), seen);
        clock.raise(i64::MAX);
        assert_eq!(clock.now(), seen);
    }
}
