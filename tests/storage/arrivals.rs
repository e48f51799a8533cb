//! A PostgreSQL database that a transfer has begun to fill is of use to nothing else, and the next run
//! goes on.

use std::sync::Arc;
use std::time::Duration;

use onceguard::clock::Clock;
use onceguard::config::OnCut::Recover;
use onceguard::config::Replication::Asynchronous;
use onceguard::domain::SessionId;
use onceguard::metrics::Metrics;
use onceguard::storage::{
    Agree, Arrival, ClaimLimits, DumpChunk, Fingerprints, RestoreFeed, Store, StoreError,
    TransferTarget, agreement, restore_rows,
};
use rstest::rstest;
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use crate::support::Database::Postgres;
use crate::support::{
    TestStore, a_did, a_new_did, a_nonce, a_session, an_event, ask_all, by_signer, database_config,
    did, in_seconds, in_session, joining, opened, wait_for,
};
use crate::transfer::chunks;

/// Where the chunks come from, if a test does not say so.
const HOME: &str = "sqlite:///home.db";

/// A transfer under way.
struct Filling {
    feed: RestoreFeed,
    agree: Agree,
    receiving: JoinHandle<Result<(), StoreError>>,
}

async fn target(store: &TestStore, from: &str) -> Result<TransferTarget, StoreError> {
    let metrics = Arc::new(Metrics::new().unwrap());
    TransferTarget::open(&database_config(store.url().clone()), metrics, from).await
}

/// Begins a transfer, or goes on with it.
async fn fill(store: &TestStore, id: Uuid, from: &str) -> Filling {
    let target = target(store, from).await.unwrap();
    let ((feed, rows), (asking, agree)) = (restore_rows(), agreement());
    let arrival = Arrival { id, from: from.to_owned(), at: chrono::DateTime::UNIX_EPOCH };
    let receiving = tokio::spawn(target.receive(rows, arrival, asking));
    Filling { feed, agree, receiving }
}

/// Gives these chunks, and no more.
async fn give(feed: RestoreFeed, chunks: &[DumpChunk]) -> RestoreFeed {
    let chunks = chunks.to_vec();
    let giving = move || {
        for chunk in chunks {
            assert!(feed.chunk(chunk.table, chunk.lines));
        }
        feed
    };
    spawn_blocking(giving).await.unwrap()
}

/// What is left of a transfer that is killed when two of the three chunks of `signer_nonces` are there.
async fn killed(store: &TestStore, id: Uuid, chunks: &[DumpChunk]) {
    let Filling { feed, agree: _agree, receiving } = fill(store, id, HOME).await;
    let first = chunks.iter().position(|chunk| chunk.table == "signer_nonces").unwrap();
    let _feed = give(feed, &chunks[..=first + 1]).await;
    wait_for("two chunks", async || {
        (store.raw().number("count(*) FROM signer_nonces").await == 20_000).then_some(())
    })
    .await;
    receiving.abort();
    assert!(receiving.await.unwrap_err().is_cancelled());
}

/// Gives every chunk, and agrees. Returns what the target found before it committed.
async fn finish(store: &TestStore, id: Uuid, from: &str, chunks: &[DumpChunk]) -> Fingerprints {
    let Filling { feed, agree, receiving } = fill(store, id, from).await;
    let feed = give(feed, chunks).await;
    spawn_blocking(move || feed.whole()).await.unwrap();
    let (found, answer) = agree.found().await.unwrap();
    answer.send(()).unwrap();
    receiving.await.unwrap().unwrap();
    found
}

fn sum(chunks: &[DumpChunk]) -> Fingerprints {
    let mut given = Fingerprints::default();
    for chunk in chunks {
        given.add_chunk(chunk);
    }
    given
}

async fn why_not(store: &TestStore, from: &str) -> String {
    match target(store, from).await.err() {
        Some(StoreError::Unsuitable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The transactions that rows are of.
const WRITERS: &str = "string_agg(DISTINCT xmin::text, ',') FROM signer_nonces";

/// How many rows of these transactions are there.
async fn kept(store: &TestStore, writers: &str) -> i64 {
    let theirs = format!("xmin::text = ANY (string_to_array('{writers}', ','))");
    store.raw().number(&format!("count(*) FROM signer_nonces WHERE {theirs}")).await
}

#[rstest]
#[case::goes_on(true, None)]
#[case::another_transfer_begins_anew(false, None)]
#[case::and_does_not_write_again(true, Some("signer_nonces"))]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_transfer_took_stays(#[case] same: bool, #[case] difference: Option<&str>) {
    let (chunks, id) = (chunks().await, Uuid::now_v7());
    let store = Postgres.store().await;
    let raw = store.raw();
    killed(&store, id, &chunks).await;
    if difference.is_some() {
        let change = "UPDATE signer_nonces SET used_at = 'epoch' WHERE nonce = 'n1'";
        raw.execute(&format!("BEGIN; SET LOCAL onceguard.arrival = '{id}'; {change}; COMMIT"))
            .await;
    }
    let writers = raw.text(WRITERS).await;
    let id = if same { id } else { Uuid::now_v7() };
    let found = finish(&store, id, HOME, &chunks).await;
    assert_eq!(sum(&chunks).difference(&found), difference);
    assert_eq!(kept(&store, &writers).await, if same { 20_000 } else { 0 });
    let mark = format!("count(*) FROM transfers WHERE id = '{id}' AND confirmed_at >= moved_at");
    assert_eq!(raw.number(&mark).await, 1);

    // It is a database like any other.
    let disabled = "tgname = 'arriving' OR (NOT tgisinternal AND tgenabled <> 'O')";
    assert_eq!(raw.number(&format!("count(*) FROM pg_trigger WHERE {disabled}")).await, 0);
    let used = store.another().await;
    used.join(joining(Asynchronous, Recover)).await.unwrap();
    opened(&used, a_session()).await;
    used.close().await;
}

/// One that has served it before, one that only has it open, and one that comes now.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_uses_a_database_that_is_being_filled() {
    let (chunks, id) = (chunks().await, Uuid::now_v7());
    let store = Postgres.store().await;
    let serving = store.another().await;
    serving.join(joining(Asynchronous, Recover)).await.unwrap();
    let expires_at = in_seconds(&store, 60).await;
    killed(&store, id, &chunks).await;
    let raw = store.raw();
    let before = raw.data().await;
    let session = chunks.iter().find(|chunk| chunk.table == "sessions").unwrap();
    let session: serde_json::Value = serde_json::from_slice(&session.lines).unwrap();
    let session = session["id"].as_str().unwrap().parse::<Uuid>().unwrap();

    let is_refused = async |store: &Store| {
        let claims =
            [in_session(SessionId(session), a_nonce()), by_signer(&a_did(), a_nonce(), expires_at)];
        let event = || an_event("test.x", &"x");
        let did = did("did:a:b");
        // Each may wait for a connection.
        let (claimed, opened, put, revoked, published, raised) = tokio::join!(
            ask_all(store, &claims),
            store.open_session(a_session()),
            store.put_did(a_new_did(), event()),
            store.revoke_did(&did, event()),
            store.publish(vec![event()]),
            store.raise_skew(Duration::from_hours(1)),
        );
        let refused = [opened.err(), put.err(), revoked.err(), published.err(), raised.err()];
        for refused in claimed.into_iter().map(Result::err).chain(refused) {
            assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
        }
    };
    tokio::join!(is_refused(&store), is_refused(&serving));
    serving.heartbeat().await.unwrap_err();
    // By hand, on a connection that was never checked.
    for change in [
        "INSERT INTO signers (signer, live) VALUES ('\\x00112233445566778899aabbccddeeff', 1)",
        "UPDATE sessions SET claims = 0",
        "DELETE FROM signer_nonces",
        "TRUNCATE dids",
        "INSERT INTO history (generation) VALUES (gen_random_uuid())",
    ] {
        let refused = raw.try_execute(change).await.unwrap_err();
        assert!(refused.contains("takes no changes"), "{change}: {refused}");
    }
    assert_eq!(raw.data().await, before);
    let config = database_config(store.url().clone());
    let opened = Store::open(
        &config,
        ClaimLimits { quota_per_signer: 1, quota_per_namespace: 1 },
        Arc::new(Metrics::new().unwrap()),
        Clock::system(),
    );
    match opened.await.err() {
        Some(StoreError::Unsuitable(why)) => {
            let told = "it is being filled by the transfer from sqlite:///home.db";
            assert!(why.starts_with(told) && why.contains("which goes on"), "{why}");
        }
        other => panic!("{other:?}"),
    }

    // What came is not what it served.
    finish(&store, id, HOME, &chunks).await;
    assert!(serving.open_session(a_session()).await.is_err());
    assert_eq!(raw.number("count(*) FROM sessions").await, 1);
    serving.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transfers_do_not_fill_one_database_at_once() {
    let (chunks, id) = (chunks().await, Uuid::now_v7());
    let store = Postgres.store().await;
    let Filling { feed, agree, receiving } = fill(&store, id, HOME).await;
    let why = why_not(&store, HOME).await;
    assert!(why.contains("another `onceguard transfer`"), "{why}");
    let feed = give(feed, &chunks).await;
    spawn_blocking(move || feed.whole()).await.unwrap();
    let (found, answer) = agree.found().await.unwrap();
    assert_eq!(sum(&chunks), found);
    answer.send(()).unwrap();
    receiving.await.unwrap().unwrap();
}

/// A transfer that had all rows may have moved its source. Only from there others come instead of it.
#[rstest]
#[case::some_rows_are_dropped(false, "sqlite:///other.db", true)]
#[case::all_rows_stay(true, "sqlite:///other.db", false)]
#[case::all_rows_of_one_called_off_are_dropped(true, HOME, true)]
#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_end_yields_unless_its_source_may_be_moved(
    #[case] all: bool,
    #[case] from: &str,
    #[case] yields: bool,
) {
    let (chunks, id) = (chunks().await, Uuid::now_v7());
    let store = Postgres.store().await;
    if all {
        let Filling { feed, agree, receiving } = fill(&store, id, HOME).await;
        let feed = give(feed, &chunks).await;
        spawn_blocking(move || feed.whole()).await.unwrap();
        let (_, answer) = agree.found().await.unwrap();
        receiving.abort();
        assert!(receiving.await.unwrap_err().is_cancelled());
        drop(answer);
    } else {
        killed(&store, id, &chunks).await;
    }
    let next = Uuid::now_v7();
    if yields {
        assert_eq!(finish(&store, next, from, &chunks).await, sum(&chunks));
    } else {
        let why = why_not(&store, from).await;
        assert!(why.contains("sqlite:///home.db, which may be moved"), "{why}");
        assert_eq!(finish(&store, id, HOME, &chunks).await, sum(&chunks));
    }
}

/// What failed, and was not killed, may have failed because of what is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_begins_anew() {
    let (chunks, id) = (chunks().await, Uuid::now_v7());
    let store = Postgres.store().await;
    let Filling { feed, agree, receiving } = fill(&store, id, HOME).await;
    let feed = give(feed, &chunks).await;
    spawn_blocking(move || feed.whole()).await.unwrap();
    // It does not agree.
    drop(agree.found().await.unwrap());
    receiving.await.unwrap().unwrap_err();
    assert_eq!(store.raw().number("count(*) FROM history").await, 0);
    let writers = store.raw().text(WRITERS).await;
    assert_eq!(finish(&store, id, HOME, &chunks).await, sum(&chunks));
    assert_eq!(kept(&store, &writers).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_holds_data_stays_as_it_is() {
    let (chunks, id) = (chunks().await, Uuid::now_v7());
    let store = Postgres.store().await;
    opened(&store, a_session()).await;
    let before = store.raw().data().await;
    let Filling { feed, agree: _agree, receiving } = fill(&store, id, HOME).await;
    let refused = receiving.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("the target holds data"), "{refused}");
    drop((feed, chunks));
    assert_eq!(store.raw().data().await, before);
    opened(&store, a_session()).await;
}
