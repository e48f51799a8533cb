//! Claims: whether a nonce is used for the first time.

use super::{Result, Store, StoreError, on};
use crate::domain::{
    Ask, Claim, Facts, Namespace, Nonce, Scope, SessionId, SignerKey, Timestamp, UsedNonce,
};

/// Claims that are worth asking together. On PostgreSQL claims of one kind take the same locks,
/// so that what holds up one kind holds up no other; on SQLite, which has one writer, all claims
/// are of the first kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    InSession,
    /// In a session that limits its claims.
    Counted,
    /// By a signer, or in a namespace.
    BySigner,
    /// By a signer that names a session.
    BySignerInSession,
}

/// What to do about a session or a signer that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLock {
    /// Its asks are [`Asked::Busy`].
    Skip,
    /// They wait a little. Only few transactions may be spent on this.
    Wait,
}

/// What a store says of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Decided(Facts),
    /// Nothing was decided: the session limits its claims, so this is one of another kind.
    Counted,
    /// Nothing was decided: another transaction has locked what counts the claim.
    Busy,
}

impl Store {
    /// The kind of a claim, as far as its scope tells it: that a session limits its claims is
    /// found when one is asked.
    #[must_use]
    pub const fn claim_kind(&self, scope: &Scope) -> ClaimKind {
        match (self, scope) {
            (Self::Sqlite(_), _) | (_, Scope::Session(_)) => ClaimKind::InSession,
            (_, Scope::Signer { session: None, .. } | Scope::Namespace { .. }) => {
                ClaimKind::BySigner
            }
            (_, Scope::Signer { .. }) => ClaimKind::BySignerInSession,
        }
    }

    /// The kinds that [`Self::claim_kind`] tells apart.
    #[must_use]
    pub const fn claim_kinds(&self) -> &'static [ClaimKind] {
        match self {
            Self::Postgres(_) => {
                &[ClaimKind::InSession, ClaimKind::BySigner, ClaimKind::BySignerInSession]
            }
            Self::Sqlite(_) => &[ClaimKind::InSession],
        }
    }

    /// How many batches of claims of one kind it pays to commit side by side. Two of those that
    /// lock rows would only get in each other's way.
    #[must_use]
    pub const fn claim_batches(&self, kind: ClaimKind) -> usize {
        match (self, kind) {
            (Self::Postgres(_), ClaimKind::InSession) => 2,
            _ => 1,
        }
    }

    /// Decides every ask, atomically each, and commits before it returns: what `inserted` says
    /// is on disk. Asks succeed or fail independently, in the order given.
    ///
    /// # Errors
    /// Per ask: [`OutcomeUnknown`](super::StoreError::OutcomeUnknown) when the connection was lost
    /// between the send and the answer, any other error when nothing was written.
    pub async fn claim(&self, asks: &[Ask<'_>], on_lock: OnLock) -> Vec<Result<Asked>> {
        let (answers, latest) = match self {
            Self::Postgres(store) => (store.claim(asks, on_lock).await, store.latest_issue()),
            // Nothing is locked but the whole database, for which every call waits.
            Self::Sqlite(store) => {
                let facts = store.claim(asks).await.into_iter();
                (facts.map(|facts| facts.map(Asked::Decided)).collect(), store.latest_issue())
            }
        };
        for (ask, answer) in asks.iter().zip(&answers) {
            if let (Some(issued_at), true) = (issued_at(ask.claim), may_be_inserted(answer)) {
                latest.note(issued_at);
            }
        }
        answers
    }

    /// The live nonces of a signer or a namespace.
    pub async fn live_nonces(&self, scope: SignerKey) -> Result<u64> {
        on!(self, store => store.live_nonces(scope).await)
    }

    /// The nonce's row in a namespace, if it was used there and is still kept.
    pub async fn namespace_nonce(
        &self,
        namespace: &Namespace,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        on!(self, store => store.namespace_nonce(namespace, nonce).await)
    }

    /// The nonce's row in a session, if it was used there.
    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        on!(self, store => store.session_nonce(session, nonce).await)
    }
}

/// When the message of a claim says that it was issued.
const fn issued_at(claim: &Claim) -> Option<Timestamp> {
    match &claim.scope {
        Scope::Session(_) => None,
        Scope::Signer { issued_at, .. } | Scope::Namespace { issued_at, .. } => *issued_at,
    }
}

const fn may_be_inserted(answer: &Result<Asked>) -> bool {
    match answer {
        Ok(Asked::Decided(facts)) => facts.inserted,
        Ok(Asked::Counted | Asked::Busy) => false,
        Err(error) => matches!(error, StoreError::OutcomeUnknown(_)),
    }
}
