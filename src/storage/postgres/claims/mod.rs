//! Claims: which asks go to which statement.
//!
//! Asks in sessions without a limit, in sessions with one, by signers, and by signers who name a
//! session take different locks, so each of the four has a transaction of its own and fails alone.
//! Where nothing is counted, no row is locked, and one statement decides and commits: [`quick`]
//! accepts what needs nothing but its row, and [`in_sessions`] judges what that left over. Where
//! something is counted, its row is locked first, and a second statement, whose snapshot is newer
//! than the lock, judges, counts the room and writes: [`counted`] does so for sessions, [`signers`]
//! for signers and namespaces. [`signers_in_sessions`] has two limits to meet, and a claim that one
//! of them refuses must take no room of the other. So nothing is written before both are known,
//! which takes a third statement; the other ways do without that round trip. What they have in
//! common is in [`facts`], [`locks`] and [`columns`].
//!
//! A transaction of claims waits for no row while it holds another one: it locks what nobody has
//! locked ([`OnLock::Skip`]), or begins by waiting for one kind of row. So a row that stays locked
//! holds up its own claims only, and no two transactions of claims wait for each other.

mod columns;
mod counted;
pub(super) mod detour;
mod facts;
mod in_sessions;
mod locks;
mod quick;
mod readings;
mod signers;
mod signers_in_sessions;

use diesel::prelude::*;
use uuid::Uuid;

use super::PostgresStore;
use super::{of_its_row, unreadable};
use crate::domain::{
    Ask, Facts, IdempotencyDigest, Scope, SessionId, SignerKey, Timestamp, UsedNonce,
};
use crate::storage::{Asked, OnLock, Result, StoreError};

/// An ask in a session, and its place among all asks.
#[derive(Clone, Copy)]
pub(super) struct SessionAsk<'a> {
    pub(super) place: usize,
    pub(super) session: Uuid,
    pub(super) nonce: &'a str,
    pub(super) idempotency: Option<&'a IdempotencyDigest>,
    pub(super) wants_row: bool,
}

/// An ask by a signer, and its place among all asks. A namespace is a signer whose DID is no DID.
#[derive(Clone, Copy)]
pub(super) struct SignerAsk<'a> {
    pub(super) place: usize,
    pub(super) signer: SignerKey,
    pub(super) did: &'a str,
    pub(super) expires_at: Timestamp,
    pub(super) issued_at: Option<Timestamp>,
    /// The most live nonces of the signer.
    pub(super) quota: u64,
    pub(super) nonce: &'a str,
    pub(super) idempotency: Option<&'a IdempotencyDigest>,
}

/// An ask by a signer that names a session.
#[derive(Clone, Copy)]
pub(super) struct NamedAsk<'a> {
    pub(super) by: SignerAsk<'a>,
    pub(super) session: Uuid,
}

/// What is known so far, in the order of the asks.
pub(super) struct Answers(Vec<Option<Result<Asked>>>);

impl Answers {
    pub(super) fn put(&mut self, place: usize, answer: Result<Asked>) {
        if let Some(slot) = self.0.get_mut(place) {
            *slot = Some(answer);
        }
    }

    pub(super) fn decide(&mut self, place: usize, facts: Facts) {
        self.put(place, Ok(Asked::Decided(facts)));
    }

    pub(super) fn fail(&mut self, places: impl Iterator<Item = usize>, error: &StoreError) {
        for place in places {
            self.put(place, Err(error.clone()));
        }
    }

    fn into_vec(self) -> Vec<Result<Asked>> {
        let missing = || Err(StoreError::Unexpected("a claim was not answered".into()));
        self.0.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }
}

impl PostgresStore {
    pub async fn claim(&self, asks: &[Ask<'_>], on_lock: OnLock) -> Vec<Result<Asked>> {
        let mut answers = Answers(asks.iter().map(|_| None).collect());
        let (mut in_sessions, mut counted) = (Vec::new(), Vec::new());
        let (mut by_signers, mut named) = (Vec::new(), Vec::new());
        for (place, Ask { claim, wants_row, counted: is_counted }) in asks.iter().enumerate() {
            let nonce = claim.nonce.as_str();
            let idempotency = claim.idempotency.as_ref();
            match &claim.scope {
                Scope::Session(SessionId(session)) => {
                    let asks = if *is_counted { &mut counted } else { &mut in_sessions };
                    asks.push(SessionAsk {
                        place,
                        session: *session,
                        nonce,
                        idempotency,
                        wants_row: *wants_row,
                    });
                }
                Scope::Signer { did, expires_at, issued_at, session } => {
                    let by = SignerAsk {
                        place,
                        signer: did.signer_key(),
                        did: did.as_str(),
                        expires_at: *expires_at,
                        issued_at: *issued_at,
                        quota: self.limits.quota_per_signer,
                        nonce,
                        idempotency,
                    };
                    match session {
                        None => by_signers.push(by),
                        Some(SessionId(session)) => named.push(NamedAsk { by, session: *session }),
                    }
                }
                Scope::Namespace { namespace, expires_at, issued_at } => {
                    by_signers.push(SignerAsk {
                        place,
                        signer: namespace.key(),
                        did: namespace.marked(),
                        expires_at: *expires_at,
                        issued_at: *issued_at,
                        quota: self.limits.quota_per_namespace,
                        nonce,
                        idempotency,
                    });
                }
            }
        }
        if !in_sessions.is_empty() {
            self.claim_in_sessions(in_sessions, &mut answers).await;
        }
        if !counted.is_empty() {
            self.claim_in_counted_sessions(&counted, on_lock, &mut answers).await;
        }
        if !by_signers.is_empty() {
            self.claim_by_signers(by_signers, on_lock, &mut answers).await;
        }
        if !named.is_empty() {
            self.claim_in_named_sessions(named, on_lock, &mut answers).await;
        }
        answers.into_vec()
    }
}

pub(super) fn used(
    used_at: Timestamp,
    expires_at: Timestamp,
    idempotency: Option<Vec<u8>>,
) -> QueryResult<UsedNonce> {
    let idempotency = idempotency
        .map(|digest| digest.try_into().map_err(|_| unreadable("a digest of another length")))
        .transpose()?;
    Ok(UsedNonce { used_at, expires_at, idempotency })
}
