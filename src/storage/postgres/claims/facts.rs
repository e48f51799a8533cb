//! What the statements of claims have in common: whether a session is over, whether a signer's
//! message is of another time, and the facts that come of their rows.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Bytea, Nullable, Text, Timestamptz};

use super::used;
use crate::domain::{Facts, IdempotencyDigest, Refusal, Timestamp, UsedNonce};
use crate::storage::postgres::sessions::row::end;
use crate::storage::postgres::unreadable;

/// The columns of [`SessionNow`], of a session `s` that may be missing, by the clock that is given.
/// There is a reason also while it is live: the one that it will be over for.
macro_rules! session_now {
    ($now:literal) => {
        concat!(
            "s.id IS NOT NULL AS found,
            CASE
                WHEN s.ended_at IS NOT NULL THEN s.ended_at
                WHEN session_over_at(s.expires_at, s.last_activity, s.idle_timeout_seconds)
                    <= ",
            $now,
            "
                THEN session_over_at(s.expires_at, s.last_activity, s.idle_timeout_seconds)
            END AS over_at,
            CASE
                WHEN s.ended_at IS NOT NULL THEN s.end_reason
                ELSE session_over_reason(s.expires_at, s.last_activity, s.idle_timeout_seconds)
            END AS over_reason,
            EXISTS (
                SELECT FROM dids d WHERE d.revoked AND d.did IN (s.client_did, s.server_did)
            ) AS revoked"
        )
    };
}

pub(super) use session_now;

/// The clock as it is now, and what the history of the database has to do with times.
macro_rules! clock {
    () => {
        "clock AS MATERIALIZED (
            SELECT clock_timestamp() AS at, purged_until, recovered_at, not_before,
                greatest(not_before, ahead_until) AS unstated_until,
                skew_seconds * interval '1 second' AS skew
            FROM history
        )"
    };
}

/// Why an ask `a` of a signer is refused for its times, by the [`clock!`]. What does not say when
/// it was issued may have been accepted before a recovery as long as it could last: a day, by the
/// clock of an instance that was ahead.
macro_rules! untimely {
    () => {
        "CASE
            WHEN a.expires_at <= greatest(clock.at, clock.purged_until) THEN 'expired'
            WHEN a.issued_at > clock.at + clock.skew THEN 'ahead'
            WHEN a.issued_at <= clock.not_before THEN 'before_restore'
            WHEN a.issued_at IS NULL
                AND clock.at <= clock.unstated_until + interval '1 day' + 2 * clock.skew
            THEN 'before_restore'
        END"
    };
}

/// The digest of a nonce `n` that was used before. An outcome of an earlier generation is not
/// repeated: `$recovered_at` is when this generation began.
macro_rules! earlier_digest {
    ($recovered_at:literal) => {
        concat!(
            "CASE WHEN (n.used_at <= ",
            $recovered_at,
            ") IS NOT TRUE THEN n.idempotency END AS earlier"
        )
    };
}

/// Which of the `judged` asks fit: those that nothing else refuses, as long as their session or signer
/// has room, in the order of the asks. A lock keeps the room as it was found.
macro_rules! fitting {
    ($free:literal, $whose:literal) => {
        concat!(
            "free AS (
                SELECT *, ",
            $free,
            " AS free FROM judged
            ),
            placed AS MATERIALIZED (
                SELECT *,
                    coalesce(
                        free AND row_number() OVER (PARTITION BY ",
            $whose,
            ", free ORDER BY place) <= room,
                        false
                    ) AS fits
                FROM free
            )"
        )
    };
}

pub(super) use {clock, earlier_digest, fitting, untimely};

/// What the word of [`untimely!`] says.
pub(super) fn time_refusal(word: Option<&str>) -> QueryResult<Option<Refusal>> {
    Ok(match word {
        None => None,
        Some("expired") => Some(Refusal::Expired),
        Some("ahead") => Some(Refusal::IssuedAhead),
        Some("before_restore") => Some(Refusal::IssuedBeforeRestore),
        Some(_) => return Err(unreadable("a refusal that is none")),
    })
}

/// The session that a claim is asked in.
#[derive(QueryableByName)]
pub(super) struct SessionNow {
    #[diesel(sql_type = Bool)]
    pub(super) found: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    over_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    over_reason: Option<String>,
    /// One of those who must not be revoked.
    #[diesel(sql_type = Bool)]
    revoked: bool,
}

impl SessionNow {
    /// Why it takes no claim at all.
    pub(super) fn refusal(&self) -> QueryResult<Option<Refusal>> {
        Ok(match end(self.over_at, self.over_reason.as_deref())? {
            _ if !self.found => Some(Refusal::SessionNotFound),
            Some(end) => Some(Refusal::SessionOver(end)),
            None => self.revoked.then_some(Refusal::DidRevoked),
        })
    }
}

/// What a nonce was used for before.
#[derive(QueryableByName)]
pub(super) struct UsedBefore {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Bytea>)]
    earlier: Option<Vec<u8>>,
}

impl UsedBefore {
    pub(super) const fn is_there(&self) -> bool {
        self.used_at.is_some()
    }

    pub(super) fn row(self) -> QueryResult<Option<UsedNonce>> {
        let row = self.used_at.zip(self.expires_at);
        row.map(|(used_at, expires_at)| used(used_at, expires_at, self.earlier)).transpose()
    }

    /// Of an ask that inserted nothing.
    pub(super) fn facts(self, at: Timestamp, refusal: Option<Refusal>) -> QueryResult<Facts> {
        self.row().map(|row| Facts { row, ..not_inserted(at, refusal) })
    }
}

/// Of an ask that inserted nothing, without the row that may be there.
pub(super) const fn not_inserted(at: Timestamp, refusal: Option<Refusal>) -> Facts {
    Facts { at, row: None, inserted: false, refusal }
}

/// Of an ask that inserted its nonce.
pub(super) fn inserted(
    at: Timestamp,
    expires_at: Timestamp,
    idempotency: Option<&IdempotencyDigest>,
) -> Facts {
    let row = UsedNonce { used_at: at, expires_at, idempotency: idempotency.copied() };
    Facts { at, row: Some(row), inserted: true, refusal: None }
}
