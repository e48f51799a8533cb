//! One batch: equal claims are asked once, and every claim gets its own outcome.

use std::collections::HashMap;

use crate::domain::{Ask, Claim, Nonce, Outcome, Scope, SessionId, Timestamp, judge};
use crate::services::ServiceError;
use crate::storage::{Asked, OnLock, Result, Store, StoreError};

/// What makes two claims equal.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Session(SessionId, &'a Nonce),
    /// Of a signer, or a namespace.
    Signer(&'a str, &'a Nonce),
}

impl<'a> From<&'a Claim> for Key<'a> {
    fn from(claim: &'a Claim) -> Self {
        match &claim.scope {
            Scope::Session(id) => Self::Session(*id, &claim.nonce),
            Scope::Signer { did, .. } => Self::Signer(did.as_str(), &claim.nonce),
            Scope::Namespace { namespace, .. } => Self::Signer(namespace.marked(), &claim.nonce),
        }
    }
}

/// How a batch is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// The sessions are known to limit their claims.
    pub(super) counted: bool,
    pub(super) way: Way,
}

/// What a batch does about rows that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It leaves out their claims.
    Skip,
    /// It waits for them.
    Together,
    /// It waits for one, which is all that its claims need.
    ByRow,
}

impl Way {
    const fn on_lock(self) -> OnLock {
        match self {
            Self::Skip => OnLock::Skip,
            Self::Together | Self::ByRow => OnLock::Wait,
        }
    }
}

/// What came of a claim.
#[derive(Debug)]
pub(super) enum Answered {
    Decided(std::result::Result<Outcome, ServiceError>),
    /// Its nonce was used before.
    Replayed(Box<Claim>, Timestamp),
    /// Nothing was decided.
    Undecided(Box<Claim>, Why),
}

/// Why a claim was not decided.
#[derive(Debug)]
pub(super) enum Why {
    /// Its session limits its claims.
    Counted,
    /// Another transaction has locked what counts it.
    Busy { counted: bool },
    /// Another transaction was in the way of it, or of something in its batch.
    Locked { counted: bool, error: StoreError },
}

impl Why {
    /// Whether the claim's session is known to limit its claims.
    pub(super) const fn counted(&self) -> bool {
        match self {
            Self::Counted => true,
            Self::Busy { counted } | Self::Locked { counted, .. } => *counted,
        }
    }
}

impl Answered {
    pub(super) const fn is_decided(&self) -> bool {
        matches!(self, Self::Decided(_) | Self::Replayed(..))
    }
}

/// What came of every claim, in order.
///
/// Of equal claims the first is asked; the others are judged by the row it left or met. What
/// that does not decide (a later claim of the same nonce whose own expiry has not passed) is
/// asked in another round. Each round decides at least the claims that it asks, and claims that
/// had expired by the last round's clock are decided without being asked again.
pub(super) async fn decide(store: &Store, claims: Vec<Claim>, manner: Manner) -> Vec<Answered> {
    let mut outcomes: Vec<Option<Result<Decision>>> = vec![None; claims.len()];
    let mut rest: Vec<usize> = (0..claims.len()).collect();
    while !rest.is_empty() {
        let groups = group(&claims, &rest);
        let asks: Vec<_> =
            groups.iter().filter_map(|members| ask(&claims, members, manner)).collect();
        let mut answers = store.claim(&asks, manner.way.on_lock()).await.into_iter();
        rest.clear();
        for members in groups {
            let asked = answers.next().unwrap_or_else(|| Err(undecided()));
            let first = members.first().and_then(|&first| claims.get(first));
            for (position, index) in members.into_iter().enumerate() {
                let claim = claims.get(index);
                let decided = match position {
                    0 => decision(claim, &asked, true),
                    // Whether its session lets it pass was not asked.
                    _ if claim.and_then(named) != first.and_then(named) => None,
                    _ => decision(claim, &asked, false),
                };
                match (outcomes.get_mut(index), decided) {
                    (Some(slot), Some(outcome)) => *slot = Some(outcome),
                    _ => rest.push(index),
                }
            }
        }
    }
    let counted = manner.counted;
    let answered = claims.into_iter().zip(outcomes).map(|(claim, decision)| {
        let why = match decision {
            Some(Ok(Decision::Outcome(Outcome::Replayed { first_used_at }))) => {
                return Answered::Replayed(Box::new(claim), first_used_at);
            }
            Some(Ok(Decision::Outcome(outcome))) => return Answered::Decided(Ok(outcome)),
            Some(Ok(Decision::Counted)) => Why::Counted,
            Some(Ok(Decision::Busy)) => Why::Busy { counted },
            Some(Err(error @ StoreError::Locked(_))) => Why::Locked { counted, error },
            Some(Err(error)) => return Answered::Decided(Err(error.into())),
            None => return Answered::Decided(Err(unanswered())),
        };
        Answered::Undecided(Box::new(claim), why)
    });
    answered.collect()
}

#[derive(Clone)]
enum Decision {
    Outcome(Outcome),
    Counted,
    Busy,
}

/// Indexes of equal claims, in the order in which each first appears.
fn group(claims: &[Claim], indexes: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::with_capacity(indexes.len());
    let mut places: HashMap<Key<'_>, usize> = HashMap::with_capacity(indexes.len());
    for &index in indexes {
        let Some(claim) = claims.get(index) else { continue };
        let place = *places.entry(claim.into()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(members) => members.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

fn ask<'a>(claims: &'a [Claim], members: &[usize], manner: Manner) -> Option<Ask<'a>> {
    let claim = claims.get(*members.first()?)?;
    let wants_row = members
        .iter()
        .filter_map(|&index| claims.get(index))
        .any(|member| member.idempotency.is_some());
    Some(Ask { claim, wants_row, counted: manner.counted })
}

/// The session that a signer's claim names.
fn named(claim: &Claim) -> Option<SessionId> {
    match &claim.scope {
        Scope::Session(_) | Scope::Namespace { .. } => None,
        Scope::Signer { session, .. } => *session,
    }
}

/// `None` when another round has to decide. `first`: the answer is to this very claim.
fn decision(
    claim: Option<&Claim>,
    answer: &Result<Asked>,
    first: bool,
) -> Option<Result<Decision>> {
    match (claim, answer) {
        (Some(claim), Ok(Asked::Decided(facts))) => match judge(claim, facts, first) {
            None if first => Some(Err(undecided())),
            outcome => outcome.map(|outcome| Ok(Decision::Outcome(outcome))),
        },
        (_, Ok(Asked::Counted)) => Some(Ok(Decision::Counted)),
        (_, Ok(Asked::Busy)) => Some(Ok(Decision::Busy)),
        (_, Err(error)) => Some(Err(error.clone())),
        (None, _) => Some(Err(undecided())),
    }
}

pub(super) fn unanswered() -> ServiceError {
    undecided().into()
}

fn undecided() -> StoreError {
    StoreError::Unexpected("the store left a claim undecided".into())
}

/// The answer to one caller. A caller with several claims gets either every outcome, or one
/// error that is true of all: as soon as one claim was accepted or may have been, the others'
/// failure must not read as "nothing changed".
pub(super) fn answer(
    outcomes: impl Iterator<Item = std::result::Result<Outcome, ServiceError>>,
) -> std::result::Result<Vec<Outcome>, ServiceError> {
    let mut decided = Vec::with_capacity(outcomes.size_hint().0);
    let mut failed: Option<ServiceError> = None;
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => decided.push(outcome),
            Err(error) if is_unknown(&error) => failed = Some(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => Ok(decided),
        Some(error) if is_unknown(&error) => Err(error),
        Some(error) if decided.iter().any(|o| matches!(o, Outcome::Accepted(_))) => {
            Err(StoreError::OutcomeUnknown(format!("part of the batch failed: {error}")).into())
        }
        Some(error) => Err(error),
    }
}

pub(super) const fn is_unknown(error: &ServiceError) -> bool {
    matches!(error, ServiceError::Store(StoreError::OutcomeUnknown(_)))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};
    use uuid::Uuid;

    use super::*;
    use crate::domain::Accepted;

    fn time() -> Timestamp {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time")
    }

    fn accepted() -> Outcome {
        let (used_at, expires_at) = (time(), time() + Duration::hours(1));
        Outcome::Accepted(Accepted { used_at, expires_at, repeated: false })
    }

    fn claim(session: SessionId, nonce: &str) -> Claim {
        let nonce = Nonce::parse(nonce).expect("a nonce");
        Claim { scope: Scope::Session(session), nonce, idempotency: None }
    }

    #[test]
    fn equal_claims_share_a_group_and_order_is_kept() {
        let (a, b) = (SessionId(Uuid::now_v7()), SessionId(Uuid::now_v7()));
        let claims = [claim(a, "1"), claim(b, "1"), claim(a, "2"), claim(a, "1")];
        assert_eq!(group(&claims, &[0, 1, 2, 3]), [vec![0, 3], vec![1], vec![2]]);
    }

    #[test]
    fn one_unknown_outcome_makes_the_answer_unknown() {
        let unknown = || Err(StoreError::OutcomeUnknown("cut".into()).into());
        let down = || Err(StoreError::Unavailable("down".into()).into());
        let result = answer([Ok(accepted()), down(), unknown()].into_iter());
        assert_eq!(result, Err(StoreError::OutcomeUnknown("cut".into()).into()));
        let result = answer([down(), unknown()].into_iter());
        assert!(matches!(result, Err(ServiceError::Store(StoreError::OutcomeUnknown(_)))));
    }

    #[test]
    fn a_partial_success_never_reads_as_nothing_changed() {
        let down = || Err(StoreError::Unavailable("down".into()).into());
        let result = answer([Ok(accepted()), down()].into_iter());
        assert!(matches!(result, Err(ServiceError::Store(StoreError::OutcomeUnknown(_)))));
        let replayed = Outcome::Replayed { first_used_at: time() };
        let result = answer([Ok(replayed), down()].into_iter());
        assert_eq!(result, Err(StoreError::Unavailable("down".into()).into()));
    }
}
