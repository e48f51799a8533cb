//! Claims by signers in a database that was put back and recovered: nothing that was accepted
//! before is accepted again, and what is new is, once the clocks agree that it is.

use onceguard::domain::{Claim, Did, NewSession, Scope, Timestamp};
use rstest::rstest;

use crate::recovery::recover;
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_nonce, a_session, by_signer, claim, days, in_seconds, in_session, issued,
    minutes, naming, opened, with_key,
};

const BEFORE: &str = "issued_before_restore";

/// What is answered to the claim of a message that was sent before: where the rows were moved into
/// the past, the message's times are, too.
async fn replay(store: &TestStore, sent: &Claim) -> &'static str {
    let moved = |time: Timestamp| time - (store.steady(time) - time);
    let mut sent = sent.clone();
    if let Scope::Signer { expires_at, issued_at, .. } = &mut sent.scope {
        (*expires_at, *issued_at) = (moved(*expires_at), issued_at.map(moved));
    }
    claim(store, &sent).await.as_str()
}

/// The claim of a message that lasts for as long as it may, and was issued this many seconds from
/// now, or does not say when.
async fn message(store: &TestStore, signer: &Did, seconds: Option<i64>) -> Claim {
    let claim = by_signer(signer, a_nonce(), in_seconds(store, 86_400).await);
    match seconds {
        Some(seconds) => issued(claim, in_seconds(store, seconds).await),
        None => claim,
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_signer_sent_before_is_refused_and_what_is_new_is_not(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (signer, stranger) = (a_did(), a_did());
    let kept = message(&store, &signer, Some(0)).await;
    assert_eq!(claim(&store, &kept).await.as_str(), "accepted");
    let copy = store.copy().await;
    let lost = store.another().await;
    let mut forgotten = Vec::new();
    for seconds in [Some(-60), Some(0), Some(59), None] {
        for did in [&signer, &stranger] {
            let sent = message(&store, did, seconds).await;
            assert_eq!(claim(&lost, &sent).await.as_str(), "accepted");
            forgotten.push(sent);
        }
    }
    lost.close().await;

    recover(&copy).await;
    let stay_refused = async || {
        for sent in &forgotten {
            assert_eq!(replay(&copy, sent).await, BEFORE, "{sent:?}");
        }
        assert_eq!(replay(&copy, &kept).await, "replayed");
    };
    stay_refused().await;
    let known = copy.raw().number("count(*) FROM signers").await;
    assert_eq!(known, 1, "what is refused leaves no counter");
    // For as long as the clocks may differ.
    let fresh = message(&copy, &signer, Some(0)).await;
    assert_eq!(claim(&copy, &fresh).await.as_str(), BEFORE);

    copy.pass(minutes(2)).await;
    stay_refused().await;
    let fresh = message(&copy, &signer, Some(0)).await;
    assert_eq!(claim(&copy, &fresh).await.as_str(), "accepted");
    assert_eq!(claim(&copy, &fresh).await.as_str(), "replayed");
    let fresh = message(&copy, &stranger, Some(0)).await;
    assert_eq!(claim(&copy, &fresh).await.as_str(), "accepted", "of a new signer");
    let unstated = message(&copy, &signer, None).await;
    assert_eq!(claim(&copy, &unstated).await.as_str(), BEFORE);

    copy.pass(days(1)).await;
    for sent in &forgotten {
        assert_eq!(replay(&copy, sent).await, "expired");
    }
    let unstated = message(&copy, &signer, None).await;
    assert_eq!(claim(&copy, &unstated).await.as_str(), BEFORE, "by a clock that was ahead");
    copy.pass(minutes(2)).await;
    let unstated = message(&copy, &signer, None).await;
    assert_eq!(claim(&copy, &unstated).await.as_str(), "accepted");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_names_a_session_is_refused_the_same(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let copy = store.copy().await;
    let lost = store.another().await;
    let new = a_session();
    let signer = new.client_did.clone();
    let named = opened(&lost, new).await.id;
    let mut forgotten = Vec::new();
    for seconds in [Some(59), None] {
        let sent = message(&store, &signer, seconds).await;
        assert_eq!(claim(&lost, &naming(sent.clone(), named)).await.as_str(), "accepted");
        forgotten.push(sent);
    }
    lost.close().await;

    recover(&copy).await;
    for max_claims in [None, Some(10)] {
        let mut new = a_session();
        new.client_did = signer.clone();
        new.max_claims = max_claims;
        let session = opened(&copy, new).await.id;
        for sent in &forgotten {
            assert_eq!(claim(&copy, &naming(sent.clone(), session)).await.as_str(), BEFORE);
        }
        assert_eq!(copy.raw().number("count(*) FROM signers").await, 0);
    }
    copy.pass(minutes(2)).await;
    let mut new = a_session();
    new.client_did = signer.clone();
    let session = opened(&copy, new).await.id;
    for sent in &forgotten {
        assert_eq!(replay(&copy, &naming(sent.clone(), session)).await, BEFORE);
    }
    let fresh = message(&copy, &signer, Some(0)).await;
    assert_eq!(claim(&copy, &naming(fresh, session)).await.as_str(), "accepted");
}

/// So nothing that was ever accepted was issued after the time before which a recovery refuses.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_message_from_the_future_is_never_accepted(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let new = a_session();
    let signer = new.client_did.clone();
    let session = opened(&store, new).await.id;
    for (seconds, outcome) in [(75, "expired"), (45, "accepted")] {
        let sent = message(&store, &signer, Some(seconds)).await;
        assert_eq!(claim(&store, &sent).await.as_str(), outcome);
        let sent = message(&store, &signer, Some(seconds)).await;
        assert_eq!(claim(&store, &naming(sent, session)).await.as_str(), outcome);
    }
    store.raise_skew(minutes(2)).await.unwrap();
    let sent = message(&store, &signer, Some(75)).await;
    assert_eq!(claim(&store, &sent).await.as_str(), "accepted");
}

/// An outcome is repeated to who has its key, unless it is of an earlier generation.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_outcome_from_before_a_recovery_is_repeated(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let counted = NewSession { max_claims: Some(10), ..a_session() };
    let named = a_session();
    let signer = named.client_did.clone();
    let ids = [opened(&store, named).await.id, opened(&store, counted).await.id];
    let sent = [
        in_session(ids[0], a_nonce()),
        in_session(ids[1], a_nonce()),
        message(&store, &signer, Some(0)).await,
        naming(message(&store, &signer, Some(0)).await, ids[0]),
    ]
    .map(|claim| with_key(claim, 1));
    for claimed in &sent {
        assert_eq!(claim(&store, claimed).await.as_str(), "accepted");
        assert_eq!(claim(&store, claimed).await.as_str(), "accepted", "repeated");
    }
    recover(&store).await;
    let mut outcomes = Vec::new();
    for claimed in &sent {
        outcomes.push(claim(&store, claimed).await.as_str());
    }
    assert_eq!(outcomes, ["session_ended", "session_ended", "replayed", "session_ended"]);

    store.pass(minutes(2)).await;
    let id = opened(&store, a_session()).await.id;
    for claimed in [in_session(id, a_nonce()), message(&store, &signer, Some(0)).await] {
        let claimed = with_key(claimed, 1);
        assert_eq!(claim(&store, &claimed).await.as_str(), "accepted");
        assert_eq!(claim(&store, &claimed).await.as_str(), "accepted", "repeated");
    }
}
