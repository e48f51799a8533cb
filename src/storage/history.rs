//! What the database did in the past that its rows no longer show.

use std::time::Duration;

use uuid::Uuid;

use super::marks::covers;
use super::{Result, Store, on};
use crate::domain::Timestamp;

/// The past of a database. It is whole as far as the database's generation goes back; before that,
/// the database went back in time and was recovered (see [`Store::recover`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub generation: Uuid,
    /// The generations before it, oldest first.
    pub ancestors: Vec<Uuid>,
    /// When this generation began, unless it is the first.
    pub recovered_at: Option<Timestamp>,
    /// Nothing that was issued later was accepted before that. Set with `recovered_at`.
    pub not_before: Option<Timestamp>,
    /// How far the clock had come, with the skew, when it was ahead: what does not say when it was
    /// issued may be as late as that. Set only by a recovery that was told so.
    pub ahead_until: Option<Timestamp>,
    /// How far a signer's clock may be ahead: the most that any instance ever allowed.
    pub skew: Duration,
    /// The latest expiry of a signer's nonce that the purge removed. Claims that expire no later are
    /// refused, even if the clock says otherwise.
    pub purged_until: Option<Timestamp>,
}

impl History {
    /// Whether recoveries cover what was accepted while the clock had not passed `until`, issued no
    /// later than `issued_until`.
    #[must_use]
    pub fn covers(&self, until: Timestamp, issued_until: Option<Timestamp>) -> bool {
        let Self { not_before, ahead_until, skew, .. } = self;
        covers(*not_before, *ahead_until, until + *skew, issued_until)
    }
}

impl Store {
    pub async fn history(&self) -> Result<History> {
        on!(self, store => store.history().await)
    }

    /// Records that an instance allows signers' clocks to be so far ahead. The record never gets
    /// smaller: what was accepted by a larger skew is refused after a recovery, too.
    pub async fn raise_skew(&self, skew: Duration) -> Result<()> {
        on!(self, store => store.raise_skew(skew).await)
    }
}

/// As the column holds it: whole seconds, rounded up.
pub(super) fn whole_seconds(skew: Duration) -> u32 {
    let rounded_up = skew.as_secs() + u64::from(skew.subsec_nanos() > 0);
    u32::try_from(rounded_up).unwrap_or(u32::MAX)
}
