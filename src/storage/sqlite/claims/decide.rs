//! Decides every ask of a group inside the writer's transaction.
//!
//! The asks are taken scope by scope, in the order of their keys, so that the B-tree's pages stay
//! in the cache. What is the same for a whole scope (its session, its revocations, its room) is
//! looked up once. Only the insert decides whether a nonce is fresh.

use diesel::prelude::*;

use super::ask::{OwnedAsk, OwnedScope, Signed};
use super::gate::Gate;
use super::nonces::{session_nonce, signer_nonce};
use super::sessions::{NamedSessions, Passage};
use super::statements::{InsertSessionNonce, InsertSignerNonce};
use crate::domain::{Facts, Refusal, Timestamp, UsedNonce};
use crate::storage::sqlite::connection::errors::{is_isolated, store_error};
use crate::storage::sqlite::schema::history;
use crate::storage::sqlite::types::{optional_timestamp, stored};
use crate::storage::{ClaimLimits, Result};

/// The outcomes of a group's asks.
pub(crate) struct Decided {
    /// In the order of the asks.
    pub(crate) facts: Vec<Result<Facts>>,
    /// How many nonces of sessions were inserted.
    pub(crate) session_nonces: i64,
}

/// Decides `asks`. It returns an error only when the transaction cannot go on. A scope or a nonce
/// whose row cannot be read fails only its own asks, before anything of them is written.
pub(crate) fn decide<'a>(
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
