//! The claim rule: which outcome a claim has, given what the database found.
//!
//! A store decides *atomically* whether a nonce is inserted and reports [`Facts`]; [`judge`]
//! turns them into the caller's [`Outcome`]. Only a store's insert ever makes a claim accepted.

use chrono::Duration;

use super::{Did, End, Namespace, Nonce, SessionId, Timestamp};

/// For how long a repeat with the same `Idempotency-Key` gets the first outcome.
pub const IDEMPOTENCY_WINDOW_SECONDS: i64 = 600;

/// How far ahead a nonce without a session may expire: it is kept until then.
pub const MAX_EXPIRY_AHEAD_SECONDS: u32 = 86_400;

/// Digest of caller, `Idempotency-Key` and index in the request's batch.
pub type IdempotencyDigest = [u8; 16];

/// What a nonce must be unique within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Session(SessionId),
    /// The nonce is kept until `expires_at`, which the caller derives from the signed message.
    Signer {
        did: Did,
        expires_at: Timestamp,
        /// When the signer issued the message, by its authenticated word.
        issued_at: Option<Timestamp>,
        /// Must be live, with the signer as a party, and counts the claim; it is no part of the
        /// scope.
        session: Option<SessionId>,
    },
    /// The nonce is kept until `expires_at`, and says itself when it was issued, as a signer's.
    Namespace {
        namespace: Namespace,
        expires_at: Timestamp,
        issued_at: Option<Timestamp>,
    },
}

impl Scope {
    /// When the nonce expires, unless its session says so.
    #[inline]
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Session(_) => None,
            Self::Signer { expires_at, .. } | Self::Namespace { expires_at, .. } => {
                Some(*expires_at)
            }
        }
    }
}

/// The attempt to use a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub scope: Scope,
    pub nonce: Nonce,
    pub idempotency: Option<IdempotencyDigest>,
}

/// One question to a store. Within one call no two asks share scope and nonce.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub claim: &'a Claim,
    /// Report an existing row even when the claim is refused for another reason
    /// (somebody waiting for this answer sent an `Idempotency-Key`).
    pub wants_row: bool,
    /// Its session is known to limit its claims.
    pub counted: bool,
}

/// A nonce that has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedNonce {
    pub used_at: Timestamp,
    pub expires_at: Timestamp,
    pub idempotency: Option<IdempotencyDigest>,
}

/// What a store found, and did, for one ask, in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The database's clock in that transaction.
    pub at: Timestamp,
    /// The row of this nonce: the one just inserted, the one in the way, or (when the ask wants
    /// it) one that exists although the claim is refused.
    pub row: Option<UsedNonce>,
    /// This call inserted `row`.
    pub inserted: bool,
    /// Why nothing could be inserted, whatever the nonce. Never [`Refusal::ClaimQuotaReached`]
    /// when `row` exists.
    pub refusal: Option<Refusal>,
}

/// Why a claim is refused, other than a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    SessionNotFound,
    /// The signer is no party of the session that its claim names.
    NotAParty,
    SessionOver(End),
    DidRevoked,
    /// The signer claim's own `expires_at` has passed.
    Expired,
    /// The signer claim's `issued_at` is later than the database's clock and the skew.
    IssuedAhead,
    /// It may have been accepted in the past that a restored database lost: it was issued before
    /// the restore, or does not say when.
    IssuedBeforeRestore,
    /// The session that a signer's claim names has used all of its `max_claims`.
    SessionUsedUp,
    ClaimQuotaReached,
}

/// An accepted claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub used_at: Timestamp,
    pub expires_at: Timestamp,
    /// An earlier call with the same `Idempotency-Key` made it; this one only reports it.
    pub repeated: bool,
}

/// The outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Accepted(Accepted),
    Replayed { first_used_at: Timestamp },
    Refused(Refusal),
}

impl Outcome {
    /// The word in answers and metrics.
    #[inline]
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Replayed { .. } => "replayed",
            Self::Refused(refusal) => match refusal {
                Refusal::SessionNotFound => "session_not_found",
                Refusal::NotAParty => "not_a_party",
                Refusal::SessionOver(end) if end.reason.is_expiry() => "session_expired",
                Refusal::SessionOver(_) => "session_ended",
                Refusal::DidRevoked => "did_revoked",
                Refusal::Expired | Refusal::IssuedAhead => "expired",
                Refusal::IssuedBeforeRestore => "issued_before_restore",
                Refusal::ClaimQuotaReached | Refusal::SessionUsedUp => "claim_quota_reached",
            },
        }
    }

    /// Every word [`Self::as_str`] can give.
    pub const WORDS: [&'static str; 10] = [
        "accepted",
        "replayed",
        "session_not_found",
        "not_a_party",
        "session_ended",
        "session_expired",
        "did_revoked",
        "expired",
        "issued_before_restore",
        "claim_quota_reached",
    ];
}

/// The outcome of `claim`, given the facts of an ask for its scope and nonce.
///
/// `asked` says whether the ask carried this very claim: of several equal claims in a batch one
/// is asked, and the others are judged by what it left behind. The first rule that applies wins.
/// `None` means that the facts do not decide: the asked claim's own times were refused, this one's
/// are others, and it must be asked in its own right.
#[inline]
#[must_use]
pub fn judge(claim: &Claim, facts: &Facts, asked: bool) -> Option<Outcome> {
    let won = asked && facts.inserted;
    if let Some(row) = facts.row {
        let repeats = claim.idempotency.is_some()
            && claim.idempotency == row.idempotency
            && facts.at - row.used_at <= Duration::seconds(IDEMPOTENCY_WINDOW_SECONDS);
        if won || repeats {
            let UsedNonce { used_at, expires_at, .. } = row;
            return Some(Outcome::Accepted(Accepted { used_at, expires_at, repeated: !won }));
        }
    }
    match facts.refusal {
        None
        | Some(
            Refusal::Expired
            | Refusal::IssuedAhead
            | Refusal::IssuedBeforeRestore
            | Refusal::ClaimQuotaReached
            | Refusal::SessionUsedUp,
        ) => {}
        Some(refusal) => return Some(Outcome::Refused(refusal)),
    }
    if claim.scope.expires_at().is_some_and(|expires_at| expires_at <= facts.at) {
        return Some(Outcome::Refused(Refusal::Expired));
    }
    if let Some(row) = facts.row {
        return Some(Outcome::Replayed { first_used_at: row.used_at });
    }
    match facts.refusal {
        Some(refusal @ (Refusal::ClaimQuotaReached | Refusal::SessionUsedUp)) => {
            Some(Outcome::Refused(refusal))
        }
        // What it would be compared with may have been purged, though by the clock it has not
        // expired; or it is not known, after a restore.
        Some(
            refusal @ (Refusal::Expired | Refusal::IssuedAhead | Refusal::IssuedBeforeRestore),
        ) if asked => Some(Outcome::Refused(refusal)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
