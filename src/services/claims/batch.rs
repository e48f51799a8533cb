//! One batch: equal claims are asked once, and every claim gets its own outcome.

use std::collections::HashMap;

use crate::domain::{Ask, Claim, Facts, Nonce, Outcome, Scope, SessionId, judge};
use crate::services::ServiceError;
use crate::storage::{Result, Store, StoreError};

/// What makes two claims equal.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Session(SessionId, &'a Nonce),
    Signer(&'a str, &'a Nonce),
}

impl<'a> From<&'a Claim> for Key<'a> {
    fn from(claim: &'a Claim) -> Self {
        match &claim.scope {
            Scope::Session(id) => Self::Session(*id, &claim.nonce),
            Scope::Signer { did, .. } => Self::Signer(did.as_str(), &claim.nonce),
        }
    }
}

/// The outcome of every claim, in order.
///
/// Of equal claims the first is asked; the others are judged by the row it left or met. What
/// that does not decide (a later claim of the same nonce whose own expiry has not passed) is
/// asked in another round. Each round decides at least the claims that it asks, and claims that
/// had expired by the last round's clock are decided without being asked again.
pub(super) async fn decide(store: &Store, claims: &[Claim]) -> Vec<Result<Outcome>> {
    let mut outcomes: Vec<Option<Result<Outcome>>> = vec![None; claims.len()];
    let mut undecided: Vec<usize> = (0..claims.len()).collect();
    while !undecided.is_empty() {
        let groups = group(claims, &undecided);
        let asks: Vec<_> = groups.iter().filter_map(|members| ask(claims, members)).collect();
        let mut answers = store.claim(&asks).await.into_iter();
        undecided.clear();
        for members in groups {
            let facts = answers.next().unwrap_or_else(|| Err(unanswered()));
            let asked = members.first().and_then(|&first| claims.get(first));
            for (position, index) in members.into_iter().enumerate() {
                let claim = claims.get(index);
                let decided = match position {
                    0 => outcome(claim, &facts, true),
                    // Whether its session lets it pass was not asked.
                    _ if claim.and_then(named) != asked.and_then(named) => None,
                    _ => outcome(claim, &facts, false),
                };
                match (outcomes.get_mut(index), decided) {
                    (Some(slot), Some(outcome)) => *slot = Some(outcome),
                    _ => undecided.push(index),
                }
            }
        }
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(unanswered()))).collect()
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

fn ask<'a>(claims: &'a [Claim], members: &[usize]) -> Option<Ask<'a>> {
    let claim = claims.get(*members.first()?)?;
    let wants_row = members
        .iter()
        .filter_map(|&index| claims.get(index))
        .any(|member| member.idempotency.is_some());
    Some(Ask { claim, wants_row })
}

/// The session that a signer's claim names.
fn named(claim: &Claim) -> Option<SessionId> {
    match &claim.scope {
        Scope::Session(_) => None,
        Scope::Signer { session, .. } => *session,
    }
}

/// `None` when another round has to decide.
fn outcome(claim: Option<&Claim>, facts: &Result<Facts>, asked: bool) -> Option<Result<Outcome>> {
    match (claim, facts) {
        (Some(claim), Ok(facts)) => match judge(claim, facts, asked) {
            None if asked => Some(Err(unanswered())),
            decided => decided.map(Ok),
        },
        (_, Err(error)) => Some(Err(error.clone())),
        (None, _) => Some(Err(unanswered())),
    }
}

fn unanswered() -> StoreError {
    StoreError::Unexpected("the store left a claim undecided".into())
}

/// The answer to one caller. A caller with several claims gets either every outcome, or one
/// error that is true of all: as soon as one claim was accepted or may have been, the others'
/// failure must not read as "nothing changed".
pub(super) fn answer(
    outcomes: impl Iterator<Item = Result<Outcome>>,
) -> std::result::Result<Vec<Outcome>, ServiceError> {
    let mut decided = Vec::with_capacity(outcomes.size_hint().0);
    let mut failed: Option<StoreError> = None;
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => decided.push(outcome),
            Err(error @ StoreError::OutcomeUnknown(_)) => failed = Some(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => Ok(decided),
        Some(error @ StoreError::OutcomeUnknown(_)) => Err(error.into()),
        Some(error) if decided.iter().any(|o| matches!(o, Outcome::Accepted(_))) => {
            Err(StoreError::OutcomeUnknown(format!("part of the batch failed: {error}")).into())
        }
        Some(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};

    use super::*;
    use crate::domain::{Accepted, Timestamp};

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
        let (a, b) = (SessionId::generate(), SessionId::generate());
        let claims = [claim(a, "1"), claim(b, "1"), claim(a, "2"), claim(a, "1")];
        assert_eq!(group(&claims, &[0, 1, 2, 3]), [vec![0, 3], vec![1], vec![2]]);
    }

    #[test]
    fn one_unknown_outcome_makes_the_answer_unknown() {
        let unknown = || Err(StoreError::OutcomeUnknown("cut".into()));
        let down = || Err(StoreError::Unavailable("down".into()));
        let result = answer([Ok(accepted()), down(), unknown()].into_iter());
        assert_eq!(result, Err(StoreError::OutcomeUnknown("cut".into()).into()));
        let result = answer([down(), unknown()].into_iter());
        assert!(matches!(result, Err(ServiceError::Store(StoreError::OutcomeUnknown(_)))));
    }

    #[test]
    fn a_partial_success_never_reads_as_nothing_changed() {
        let down = || Err(StoreError::Unavailable("down".into()));
        let result = answer([Ok(accepted()), down()].into_iter());
        assert!(matches!(result, Err(ServiceError::Store(StoreError::OutcomeUnknown(_)))));
        let replayed = Outcome::Replayed { first_used_at: time() };
        let result = answer([Ok(replayed), down()].into_iter());
        assert_eq!(result, Err(StoreError::Unavailable("down".into()).into()));
    }
}
