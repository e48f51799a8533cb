//! The gate of a scope: whether nonces can be added to it now, how many, and how they are counted. It
//! is looked up once for all asks of the scope in a group.

use diesel::prelude::*;

use super::ask::{OwnedAsk, OwnedScope, Signed};
use super::sessions::LiveSession;
use super::statements::{AddToSigner, FindSigner};
use super::times::Times;
use crate::domain::{Refusal, Timestamp};
use crate::storage::ClaimLimits;
use crate::storage::sqlite::types::{number, stored};

/// Whether, and how, nonces can be added to a scope.
pub(super) enum Gate {
    Closed(Refusal),
    Session(LiveSession),
    Signer { room: usize, times: Times },
}

impl Gate {
    pub(super) fn find(
        conn: &mut SqliteConnection,
        limits: ClaimLimits,
        now: Timestamp,
        ask: &OwnedAsk,
    ) -> QueryResult<Self> {
        match &ask.scope {
            OwnedScope::Session(id) => {
                Ok(LiveSession::find(conn, now, id)?.map_or_else(Self::Closed, Self::Session))
            }
            OwnedScope::Signer { did, signed, .. } => {
                Self::find_signer(conn, limits.quota_per_signer, now, did.as_str(), signed)
            }
            OwnedScope::Namespace { namespace, signed } => {
                let quota = limits.quota_per_namespace;
                Self::find_signer(conn, quota, now, namespace.marked(), signed)
            }
        }
    }

    fn find_signer(
        conn: &mut SqliteConnection,
        quota: u64,
        now: Timestamp,
        did: &str,
        Signed { key: signer, .. }: &Signed,
    ) -> QueryResult<Self> {
        type Row = (i64, bool, Option<i64>, Option<i64>, Option<i64>, i64);
        let (live, revoked, purged_until, not_before, ahead_until, skew): Row =
            FindSigner { signer, did }.get_result(conn)?;
        if revoked {
            return Ok(Self::Closed(Refusal::DidRevoked));
        }
        let room = usize::try_from(quota.saturating_sub(number(live)?)).unwrap_or(usize::MAX);
        let times = Times::read(now, purged_until, not_before, ahead_until, skew)?;
        Ok(Self::Signer { room, times })
    }

    /// How many of `wanted` nonces fit.
    pub(super) fn room(&self, wanted: usize) -> usize {
        match self {
            Self::Closed(_) => wanted,
            Self::Session(session) => session.room.unwrap_or(wanted),
            Self::Signer { room, .. } => *room,
        }
    }

    /// Counts what was inserted.
    pub(super) fn record(
        &self,
        conn: &mut SqliteConnection,
        now: Timestamp,
        ask: &OwnedAsk,
        inserted: usize,
    ) -> QueryResult<()> {
        let (did, signer) = match (self, &ask.scope) {
            (Self::Session(session), _) => return session.record(conn, now, inserted),
            (_, OwnedScope::Signer { did, signed, .. }) => (did.as_str(), &signed.key),
            (_, OwnedScope::Namespace { namespace, signed }) => (namespace.marked(), &signed.key),
            (_, OwnedScope::Session(_)) => return Ok(()),
        };
        AddToSigner { signer, did, inserted: stored(inserted) }.execute(conn)?;
        Ok(())
    }
}
