//! The claim rule, case by case and over every combination of facts.

use proptest::prelude::*;

use super::*;
use crate::domain::EndReason;

fn at(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn session_claim(idempotency: Option<u8>) -> Claim {
    Claim {
        scope: Scope::Session(SessionId(uuid::Uuid::from_u128(7))),
        nonce: Nonce::parse("n").unwrap(),
        idempotency: idempotency.map(|key| [key; 16]),
    }
}

fn signer_claim(idempotency: Option<u8>, expires_at: Timestamp) -> Claim {
    let did = Did::parse("did:web:signer.example").unwrap();
    Claim {
        scope: Scope::Signer { did, expires_at, issued_at: None, session: None },
        ..session_claim(idempotency)
    }
}

/// The row of a nonce that was used `ago` seconds before second 0.
fn row(ago: i64, idempotency: Option<u8>) -> UsedNonce {
    UsedNonce {
        used_at: at(-ago),
        expires_at: at(10_000),
        idempotency: idempotency.map(|key| [key; 16]),
    }
}

fn facts(row: Option<UsedNonce>, refusal: Option<Refusal>) -> Facts {
    Facts { at: at(0), row, inserted: false, refusal }
}

const ENDED: Refusal =
    Refusal::SessionOver(End { at: chrono::DateTime::UNIX_EPOCH, reason: EndReason::Ended });
const EXPIRED_SESSION: Refusal =
    Refusal::SessionOver(End { at: chrono::DateTime::UNIX_EPOCH, reason: EndReason::Idle });

fn accepted(row: UsedNonce, repeated: bool) -> Outcome {
    let UsedNonce { used_at, expires_at, .. } = row;
    Outcome::Accepted(Accepted { used_at, expires_at, repeated })
}

fn replayed(row: UsedNonce) -> Outcome {
    Outcome::Replayed { first_used_at: row.used_at }
}

#[test]
fn the_claim_that_was_inserted_is_accepted() {
    for key in [None, Some(1)] {
        let inserted = Facts { inserted: true, ..facts(Some(row(0, key)), None) };
        assert_eq!(judge(&session_claim(key), &inserted, true), Some(accepted(row(0, key), false)));
    }
}

#[test]
fn a_nonce_in_the_way_is_a_replay() {
    let found = row(5, Some(1));
    for key in [None, Some(2)] {
        assert_eq!(
            judge(&session_claim(key), &facts(Some(found), None), true),
            Some(replayed(found))
        );
    }
    let found = row(5, None);
    assert_eq!(judge(&session_claim(None), &facts(Some(found), None), true), Some(replayed(found)));
}

#[test]
fn the_same_key_gets_the_first_outcome_for_ten_minutes() {
    for (ago, repeats) in [(0, true), (599, true), (600, true), (601, false), (100_000, false)] {
        let found = row(ago, Some(1));
        let expected = if repeats { Some(accepted(found, true)) } else { Some(replayed(found)) };
        assert_eq!(
            judge(&session_claim(Some(1)), &facts(Some(found), None), true),
            expected,
            "{ago} seconds ago"
        );
    }
}

#[test]
fn a_repeat_is_told_the_truth_through_every_refusal() {
    let found = row(5, Some(1));
    for refusal in [ENDED, EXPIRED_SESSION, Refusal::DidRevoked] {
        let facts = facts(Some(found), Some(refusal));
        assert_eq!(judge(&session_claim(Some(1)), &facts, true), Some(accepted(found, true)));
        assert_eq!(
            judge(&session_claim(Some(2)), &facts, true),
            Some(Outcome::Refused(refusal)),
            "another key is refused"
        );
    }
}

#[test]
fn every_refusal_without_a_row_is_told() {
    for refusal in [
        Refusal::SessionNotFound,
        Refusal::NotAParty,
        ENDED,
        EXPIRED_SESSION,
        Refusal::DidRevoked,
        Refusal::ClaimQuotaReached,
    ] {
        let outcome = judge(&session_claim(Some(1)), &facts(None, Some(refusal)), true);
        assert_eq!(outcome, Some(Outcome::Refused(refusal)));
    }
}

#[test]
fn a_signers_claim_expires_at_its_very_time() {
    let expired = Some(Outcome::Refused(Refusal::Expired));
    for found in [None, Some(row(5, None))] {
        let facts = facts(found, Some(Refusal::Expired));
        for expires_at in [at(-1), at(0)] {
            assert_eq!(judge(&signer_claim(None, expires_at), &facts, true), expired);
        }
    }
    let later = judge(&signer_claim(None, at(1)), &facts(Some(row(5, None)), None), true);
    assert_eq!(later, Some(replayed(row(5, None))));
}

#[test]
fn revocation_goes_before_expiry_and_expiry_before_replay_and_quota() {
    let past = signer_claim(None, at(-1));
    let found = row(5, None);
    let revoked = judge(&past, &facts(Some(found), Some(Refusal::DidRevoked)), true);
    assert_eq!(revoked, Some(Outcome::Refused(Refusal::DidRevoked)));
    for facts in [facts(Some(found), None), facts(None, Some(Refusal::ClaimQuotaReached))] {
        assert_eq!(judge(&past, &facts, true), Some(Outcome::Refused(Refusal::Expired)));
    }
}

/// What is there says more than that it may have been lost.
#[test]
fn a_claim_from_before_a_restore_or_from_the_future_is_refused_unless_it_is_known() {
    for refusal in [Refusal::IssuedBeforeRestore, Refusal::IssuedAhead] {
        let claim = signer_claim(Some(1), at(60));
        let refused = Some(Outcome::Refused(refusal));
        assert_eq!(judge(&claim, &facts(None, Some(refusal)), true), refused);
        assert_eq!(judge(&claim, &facts(None, Some(refusal)), false), None, "it is asked itself");
        let found = row(5, None);
        let known = judge(&claim, &facts(Some(found), Some(refusal)), true);
        assert_eq!(known, Some(replayed(found)));
        let expired = judge(&signer_claim(None, at(0)), &facts(None, Some(refusal)), true);
        assert_eq!(expired, Some(Outcome::Refused(Refusal::Expired)));
    }
}

/// The equal claims of a batch are judged by what the asked one left behind.
#[test]
fn an_equal_claim_of_the_same_batch_is_a_replay_of_the_asked_one() {
    let new = row(0, Some(1));
    let facts = Facts { inserted: true, ..facts(Some(new), None) };
    assert_eq!(judge(&session_claim(Some(1)), &facts, true), Some(accepted(new, false)));
    assert_eq!(judge(&session_claim(None), &facts, false), Some(replayed(new)));
    assert_eq!(judge(&session_claim(Some(2)), &facts, false), Some(replayed(new)));
    assert_eq!(
        judge(&session_claim(Some(1)), &facts, false),
        Some(accepted(new, true)),
        "a repeat"
    );
}

#[test]
fn an_equal_claim_that_has_not_expired_must_be_asked_itself() {
    let facts = facts(None, Some(Refusal::Expired));
    // The database refuses what expires no later than what it purged, even if by the clock it is
    // still valid.
    assert_eq!(
        judge(&signer_claim(None, at(60)), &facts, true),
        Some(Outcome::Refused(Refusal::Expired))
    );
    assert_eq!(judge(&signer_claim(None, at(60)), &facts, false), None);
    assert_eq!(
        judge(&signer_claim(None, at(0)), &facts, false),
        Some(Outcome::Refused(Refusal::Expired))
    );
}

fn any_refusal() -> impl Strategy<Value = Option<Refusal>> {
    prop_oneof![
        Just(None),
        Just(Some(Refusal::SessionNotFound)),
        Just(Some(Refusal::NotAParty)),
        Just(Some(ENDED)),
        Just(Some(EXPIRED_SESSION)),
        Just(Some(Refusal::DidRevoked)),
        Just(Some(Refusal::Expired)),
        Just(Some(Refusal::IssuedAhead)),
        Just(Some(Refusal::IssuedBeforeRestore)),
        Just(Some(Refusal::ClaimQuotaReached)),
    ]
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let key = prop::option::of(1..3_u8);
    (key, prop::option::of(-1_000..1_000_i64)).prop_map(|(key, expires)| match expires {
        Some(seconds) => signer_claim(key, at(seconds)),
        None => session_claim(key),
    })
}

proptest! {
    /// At most once: without an insert of its own, a claim is accepted only as the repeat of one
    /// that carried the same key, and then says so.
    #[test]
    fn nothing_is_accepted_anew_without_an_insert(
        claim in any_claim(),
        found in prop::option::of((0..1_200_i64, prop::option::of(1..3_u8))),
        refusal in any_refusal(),
        asked: bool,
        inserted: bool,
    ) {
        let found = found.map(|(ago, key)| row(ago, key));
        let inserted = inserted && found.is_some();
        let facts = Facts { inserted, ..facts(found, refusal) };
        if let Some(Outcome::Accepted(accepted)) = judge(&claim, &facts, asked) {
            prop_assert!(found.is_some());
            if accepted.repeated {
                prop_assert!(claim.idempotency.is_some());
                prop_assert_eq!(claim.idempotency, found.unwrap().idempotency);
                prop_assert!(facts.at - accepted.used_at <= Duration::minutes(10));
            } else {
                prop_assert!(asked && inserted);
            }
        }
    }

    /// What was asked is always decided by facts that a store can give.
    #[test]
    fn the_asked_claim_is_always_decided(
        claim in any_claim(),
        found in prop::option::of((0..1_200_i64, prop::option::of(1..3_u8))),
        refusal in any_refusal(),
    ) {
        let found = found.map(|(ago, key)| row(ago, key));
        let expired = matches!(claim.scope, Scope::Signer { expires_at, .. } if expires_at <= at(0));
        prop_assume!(found.is_some() || refusal.is_some());
        prop_assume!((refusal == Some(Refusal::Expired)) == expired || found.is_some());
        prop_assert!(judge(&claim, &facts(found, refusal), true).is_some());
    }
}
