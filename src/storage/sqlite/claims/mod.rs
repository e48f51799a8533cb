//! The claim rule on SQLite: decides every ask of a group inside the writer's transaction.
//!
//! The asks are taken scope by scope, in the order of their keys, so that the B-tree's pages stay
//! in the cache. What is the same for a whole scope (its session, its revocations, its room) is
//! looked up once. Only the insert decides whether a nonce is fresh.

mod gate;
pub(super) mod sessions;
mod statements;
mod times;

use diesel::prelude::*;

use self::gate::Gate;
use self::sessions::{NamedSessions, Passage};
use self::statements::{InsertSessionNonce, InsertSignerNonce};
use super::SqliteStore;
use super::connection::errors::{is_isolated, store_error};
use super::schema::{history, nonces, signer_nonces, signers};
use super::types::{number, optional_timestamp, stored, timestamp, unreadable};
use crate::domain::{
    Ask, Claim, Did, Facts, IdempotencyDigest, Namespace, Nonce, Refusal, Scope, SessionId,
    SignerKey, Timestamp, UsedNonce,
};
use crate::storage::{ClaimLimits, Result};

impl SqliteStore {
    pub async fn claim(&self, asks: &[Ask<'_>]) -> Vec<Result<Facts>> {
        self.0.claim(asks).await
    }

    pub async fn live_nonces(&self, SignerKey(key): SignerKey) -> Result<u64> {
        let live = move |conn: &mut _, _| {
            let live = signers::table.find(key.as_slice()).select(signers::live);
            number(live.get_result::<i64>(conn).optional()?.unwrap_or_default())
        };
        self.0.read("live_nonces", live).await
    }

    pub async fn namespace_nonce(
        &self,
        namespace: &Namespace,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        let (SignerKey(key), nonce) = (namespace.key(), nonce.clone());
        let find = move |conn: &mut _, _| signer_nonce(conn, &key, nonce.as_str());
        self.0.read("namespace_nonce", find).await
    }

    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        let nonce = nonce.clone();
        let find = move |conn: &mut _, _| session_nonce(conn, session.0.as_bytes(), nonce.as_str());
        self.0.read("session_nonce", find).await
    }
}

type Key = [u8; 16];

/// An ask that borrows nothing from its caller, because the caller may be gone before it is
/// decided.
pub(super) struct OwnedAsk {
    scope: OwnedScope,
    nonce: Nonce,
    idempotency: Option<IdempotencyDigest>,
    wants_row: bool,
}

enum OwnedScope {
    Session(Key),
    Signer { did: Did, session: Option<Key>, signed: Signed },
    Namespace { namespace: Namespace, signed: Signed },
}

/// What a nonce that is not a session's says of itself.
#[derive(Clone, Copy)]
struct Signed {
    /// The key of its signer or namespace.
    key: Key,
    expires_at: Timestamp,
    issued_at: Option<Timestamp>,
}

impl OwnedScope {
    /// Sessions first, then the others; each in the order of their primary keys.
    const fn order(&self) -> (u8, Key) {
        match self {
            Self::Session(key) => (0, *key),
            Self::Signer { signed, .. } | Self::Namespace { signed, .. } => (1, signed.key),
        }
    }
}

impl From<&Ask<'_>> for OwnedAsk {
    fn from(ask: &Ask<'_>) -> Self {
        let Claim { scope, nonce, idempotency } = ask.claim;
        let scope = match scope {
            Scope::Session(id) => OwnedScope::Session(id.0.into_bytes()),
            Scope::Signer { did, expires_at, issued_at, session } => OwnedScope::Signer {
                did: did.clone(),
                session: session.map(|SessionId(id)| id.into_bytes()),
                signed: Signed {
                    key: did.signer_key().0,
                    expires_at: *expires_at,
                    issued_at: *issued_at,
                },
            },
            Scope::Namespace { namespace, expires_at, issued_at } => OwnedScope::Namespace {
                namespace: namespace.clone(),
                signed: Signed {
                    key: namespace.key().0,
                    expires_at: *expires_at,
                    issued_at: *issued_at,
                },
            },
        };
        let (nonce, idempotency) = (nonce.clone(), *idempotency);
        Self { scope, nonce, idempotency, wants_row: ask.wants_row }
    }
}

impl OwnedAsk {
    /// The session that a signer's claim names, and the signer.
    fn named_session(&self) -> Option<(&Key, &Did)> {
        match &self.scope {
            OwnedScope::Session(_) | OwnedScope::Namespace { .. } => None,
            OwnedScope::Signer { session, did, .. } => session.as_ref().map(|id| (id, did)),
        }
    }
}

/// The outcomes of a group's asks.
pub(super) struct Decided {
    /// In the order of the asks.
    pub(super) facts: Vec<Result<Facts>>,
    /// How many nonces of sessions were inserted.
    pub(super) session_nonces: i64,
}

/// Decides `asks`. It returns an error only when the transaction cannot go on. A scope or a nonce
/// whose row cannot be read fails only its own asks, before anything of them is written.
pub(super) fn decide<'a>(
    conn: &mut SqliteConnection,
    limits: ClaimLimits,
    now: Timestamp,
    asks: impl Iterator<Item = &'a OwnedAsk>,
) -> QueryResult<Decided> {
    let mut asks: Vec<(usize, &OwnedAsk)> = asks.enumerate().collect();
    // A stable sort: asks that compete for the last room of a scope are served in the order of
    // asking.
    asks.sort_by_key(|(_, ask)| ask.scope.order());
    let mut facts = Vec::with_capacity(asks.len());
    let mut session_nonces = 0;
    let mut named = NamedSessions::default();
    for scope in asks.chunk_by_mut(|(_, a), (_, b)| a.scope.order() == b.scope.order()) {
        let Some(&(_, first)) = scope.first() else { continue };
        let gate = match Gate::find(conn, limits, now, first) {
            Ok(gate) => gate,
            Err(error) if is_isolated(&error) => {
                let error = store_error(&error);
                facts.extend(scope.iter().map(|(index, _)| (*index, Err(error.clone()))));
                continue;
            }
            Err(error) => return Err(error),
        };
        let room = gate.room(scope.len());
        if room >= scope.len() {
            scope.sort_by(|(_, a), (_, b)| a.nonce.cmp(&b.nonce));
        }
        let mut inserted = 0;
        for (index, ask) in scope.iter() {
            let passage = match named.passage(conn, now, ask.named_session()) {
                Ok(passage) => passage,
                Err(error) if is_isolated(&error) => {
                    facts.push((*index, Err(store_error(&error))));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let fact = match decide_one(conn, now, ask, passage, &gate, inserted < room) {
                Ok(fact) => fact,
                // The insert is its last step.
                Err(error) if is_isolated(&error) => {
                    facts.push((*index, Err(store_error(&error))));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if fact.inserted {
                inserted += 1;
                named.count(ask.named_session());
            }
            facts.push((*index, Ok(fact)));
        }
        if inserted > 0 {
            gate.record(conn, now, first, inserted)?;
        }
        if matches!(first.scope, OwnedScope::Session(_)) {
            session_nonces += stored(inserted);
        }
    }
    named.record(conn, now)?;
    facts.sort_unstable_by_key(|(index, _)| *index);
    let facts = facts.into_iter().map(|(_, fact)| fact).collect();
    Ok(Decided { facts, session_nonces })
}

fn decide_one(
    conn: &mut SqliteConnection,
    now: Timestamp,
    ask: &OwnedAsk,
    passage: Passage,
    gate: &Gate,
    has_room: bool,
) -> QueryResult<Facts> {
    let refused = |row, refusal| Facts { at: now, row, inserted: false, refusal: Some(refusal) };
    let decided = match (passage, gate, &ask.scope) {
        (Passage::Closed(refusal), ..) => Err(refusal),
        (_, Gate::Closed(refusal), _) => Err(*refusal),
        (
            _,
            Gate::Signer { times, .. },
            OwnedScope::Signer { signed, .. } | OwnedScope::Namespace { signed, .. },
        ) => {
            let Signed { expires_at, issued_at, .. } = *signed;
            times.refusal(expires_at, issued_at).map_or(Ok(expires_at), Err)
        }
        (_, Gate::Session(session), _) => Ok(session.deadline),
        (_, Gate::Signer { .. }, OwnedScope::Session(_)) => Err(Refusal::SessionNotFound),
    };
    let expires_at = match decided {
        Ok(expires_at) => expires_at,
        Err(refusal) => {
            // That it is a replay says more than that it may be one.
            let may_be_a_replay = refusal == Refusal::IssuedBeforeRestore;
            let row = if ask.wants_row || may_be_a_replay { find(conn, ask)? } else { None };
            return Ok(refused(row, refusal));
        }
    };
    let row = UsedNonce { used_at: now, expires_at, idempotency: ask.idempotency };
    let used_up = passage == Passage::UsedUp;
    if has_room && !used_up && insert(conn, ask, gate, &row)? {
        return Ok(Facts { at: now, row: Some(row), inserted: true, refusal: None });
    }
    match find(conn, ask)? {
        Some(row) => Ok(Facts { at: now, row: Some(row), inserted: false, refusal: None }),
        None if used_up => Ok(refused(None, Refusal::SessionUsedUp)),
        None => Ok(refused(None, Refusal::ClaimQuotaReached)),
    }
}

/// Whether the nonce was new.
fn insert(
    conn: &mut SqliteConnection,
    ask: &OwnedAsk,
    gate: &Gate,
    row: &UsedNonce,
) -> QueryResult<bool> {
    let nonce = ask.nonce.as_str();
    let used_at = row.used_at.timestamp_micros();
    let idempotency = ask.idempotency.as_ref().map(<[u8; 16]>::as_slice);
    let inserted = match (gate, &ask.scope) {
        (Gate::Session(session), _) => {
            let session = session.number;
            InsertSessionNonce { session, nonce, used_at, idempotency }.execute(conn)?
        }
        (_, OwnedScope::Signer { signed, .. } | OwnedScope::Namespace { signed, .. }) => {
            let (signer, expires_at) = (&signed.key, row.expires_at.timestamp_micros());
            InsertSignerNonce { signer, nonce, used_at, expires_at, idempotency }.execute(conn)?
        }
        (_, OwnedScope::Session(_)) => 0,
    };
    Ok(inserted == 1)
}

/// The row of the ask's nonce. An outcome of an earlier generation is not repeated.
fn find(conn: &mut SqliteConnection, ask: &OwnedAsk) -> QueryResult<Option<UsedNonce>> {
    let mut found = find_row(conn, ask)?;
    if let Some(row) = &mut found
        && ask.idempotency.is_some()
    {
        let recovered_at: Option<i64> =
            history::table.select(history::recovered_at).get_result(conn)?;
        let recovered_at = optional_timestamp(recovered_at)?;
        row.idempotency.take_if(|_| recovered_at.is_some_and(|at| row.used_at <= at));
    }
    Ok(found)
}

fn find_row(conn: &mut SqliteConnection, ask: &OwnedAsk) -> QueryResult<Option<UsedNonce>> {
    match &ask.scope {
        OwnedScope::Session(session) => session_nonce(conn, session, ask.nonce.as_str()),
        OwnedScope::Signer { signed, .. } | OwnedScope::Namespace { signed, .. } => {
            signer_nonce(conn, &signed.key, ask.nonce.as_str())
        }
    }
}

/// The nonce's row of a signer, or in a namespace.
fn signer_nonce(
    conn: &mut SqliteConnection,
    signer: &Key,
    nonce: &str,
) -> QueryResult<Option<UsedNonce>> {
    signer_nonces::table
        .find((signer.as_slice(), nonce))
        .select((signer_nonces::used_at, signer_nonces::expires_at, signer_nonces::idempotency))
        .get_result(conn)
        .optional()?
        .map(used_nonce)
        .transpose()
}

/// The nonce's row in a session.
fn session_nonce(
    conn: &mut SqliteConnection,
    session: &Key,
    nonce: &str,
) -> QueryResult<Option<UsedNonce>> {
    nonces::table
        .find((session.as_slice(), nonce))
        .select((nonces::used_at, nonces::expires_at, nonces::idempotency))
        .get_result(conn)
        .optional()?
        .map(used_nonce)
        .transpose()
}

fn used_nonce(row: (i64, i64, Option<Vec<u8>>)) -> QueryResult<UsedNonce> {
    let (used_at, expires_at, idempotency) = row;
    Ok(UsedNonce {
        used_at: timestamp(used_at)?,
        expires_at: timestamp(expires_at)?,
        idempotency: idempotency
            .map(|bytes| bytes.try_into().map_err(|_| unreadable("digest")))
            .transpose()?,
    })
}
