//! The times of a signer's message: whether it can be accepted now, and whether it may have been
//! accepted before the database went back in time.

use chrono::Duration;
use diesel::result::QueryResult;

use crate::domain::{Refusal, Timestamp};
use crate::storage::sqlite::types::optional_timestamp;

/// The longest time that a signer's nonce is kept for.
const LONGEST: Duration = Duration::days(1);

/// What decides about the times of a signer's message: the clock, and the history of the database.
pub(super) struct Times {
    now: Timestamp,
    purged_until: Option<Timestamp>,
    not_before: Option<Timestamp>,
    ahead_until: Option<Timestamp>,
    skew: Duration,
}

impl Times {
    /// From the columns of the history.
    pub(super) fn read(
        now: Timestamp,
        purged_until: Option<i64>,
        not_before: Option<i64>,
        ahead_until: Option<i64>,
        skew_seconds: i64,
    ) -> QueryResult<Self> {
        Ok(Self {
            now,
            purged_until: optional_timestamp(purged_until)?,
            not_before: optional_timestamp(not_before)?,
            ahead_until: optional_timestamp(ahead_until)?,
            skew: Duration::seconds(skew_seconds),
        })
    }

    /// Why a message of these times is refused, before its nonce is looked up.
    pub(super) fn refusal(
        &self,
        expires_at: Timestamp,
        issued_at: Option<Timestamp>,
    ) -> Option<Refusal> {
        // The nonces that it would be compared with may have been purged.
        if expires_at <= self.now || self.purged_until.is_some_and(|until| expires_at <= until) {
            return Some(Refusal::Expired);
        }
        if issued_at.is_some_and(|issued_at| issued_at > self.now + self.skew) {
            return Some(Refusal::IssuedAhead);
        }
        let not_before = self.not_before?;
        let may_be_old = if let Some(issued_at) = issued_at {
            issued_at <= not_before
        } else {
            // As long as what was accepted before the recovery could last: a day, by the clock of an
            // instance that was ahead.
            let latest = self.ahead_until.map_or(not_before, |ahead| ahead.max(not_before));
            self.now <= latest + LONGEST + self.skew * 2
        };
        may_be_old.then_some(Refusal::IssuedBeforeRestore)
    }
}
