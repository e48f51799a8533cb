//! A drained database takes no change, from no one, and no transfer ends that it does not belong to.

use std::path::{Path, PathBuf};

use onceguard::storage::{
    Arrival, DumpChunk, Fingerprints, Pace, StoreError, agreement, restore_rows, sqlite,
};
use rstest::rstest;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    RawSql, a_did, a_new_did, a_nonce, a_session, an_event, ask_all, by_signer, claim, did,
    in_seconds, in_session, opened, wait_for,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_database_takes_no_changes_until_it_is_released(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    // It was there before, and knows nothing of the transfer.
    let other = store.another().await;
    let session = opened(&other, a_session()).await;
    let in_session = || in_session(session.id, a_nonce());
    let expires_at = in_seconds(&store, 60).await;
    let (signer, event) = (a_did(), || an_event("test.x", &"x"));
    claim(&other, &in_session()).await;
    let before = store.raw().data().await;

    let departure = store.drain("elsewhere").await.unwrap();
    assert_eq!(store.drain("somewhere else").await.unwrap(), departure);
    assert_eq!(other.departure().await.unwrap(), Some(departure.clone()));
    for store in [&*store, &other] {
        let claims = [in_session(), by_signer(&signer, a_nonce(), expires_at)];
        for refused in ask_all(store, &claims).await {
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        for refused in [
            store.put_did(a_new_did(), event()).await.err(),
            store.revoke_did(&did("did:a:b"), event()).await.err(),
            store.publish(vec![event()]).await.err(),
        ] {
            assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
        }
    }
    let events = "count(*) FROM events WHERE type = 'onceguard.transfer.began'";
    assert_eq!(store.raw().number(events).await, 1);

    assert!(!store.release(Uuid::now_v7()).await.unwrap(), "of another transfer");
    assert!(store.release(departure.id).await.unwrap());
    assert!(!store.release(departure.id).await.unwrap());
    assert_eq!(store.departure().await.unwrap(), None);
    let cut = |data: &str| data.split("events:").next().unwrap().to_owned();
    assert_eq!(cut(&store.raw().data().await), cut(&before));
    assert_eq!(claim(&other, &in_session()).await.as_str(), "accepted");
    other.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_over_is_never_released(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let id = store.drain("elsewhere").await.unwrap().id;
    assert!(!store.hand_over(Uuid::now_v7()).await.unwrap(), "by another transfer");
    store.confirm_transfer(id).await.unwrap();
    assert_eq!(store.departure().await.unwrap().unwrap().confirmed_at, None, "not yet");
    assert!(store.hand_over(id).await.unwrap());
    let moved = store.departure().await.unwrap().unwrap();
    assert!(moved.moved_at.is_some() && store.hand_over(id).await.unwrap());
    assert_eq!(store.departure().await.unwrap().unwrap(), moved, "done again, it stays");
    assert!(!store.release(id).await.unwrap());
    store.confirm_transfer(id).await.unwrap();
    assert!(store.departure().await.unwrap().unwrap().confirmed_at.is_some());
    assert!(store.raw().try_execute("DELETE FROM leases").await.is_err() || on == Sqlite);
}

/// A transfer that was called off meanwhile does not move the database.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_released_database_is_not_handed_over(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let first = store.drain("elsewhere").await.unwrap().id;
    assert!(store.release(first).await.unwrap());
    assert!(!store.hand_over(first).await.unwrap());
    let second = store.drain("elsewhere").await.unwrap().id;
    assert!(first != second && !store.hand_over(first).await.unwrap());
}

/// Every chunk of a database with so many nonces that they make three.
pub(crate) async fn chunks() -> Vec<DumpChunk> {
    let store = Sqlite.store().await;
    opened(&store, a_session()).await;
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) \
                INSERT INTO signer_nonces (signer, nonce, used_at, expires_at) \
                SELECT x'00112233445566778899aabbccddeeff', 'n' || i, 1, 2 FROM n";
    store.raw().execute(fill).await;
    let (mut dump, mut chunks) = (store.dump(Pace::Alone).await.unwrap(), Vec::new());
    while let Some(chunk) = dump.next().await.unwrap() {
        chunks.push(chunk);
    }
    chunks
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", target.display()))
}

/// Gives these rows to a new file, and returns what it found before the commit.
async fn receive(target: &Path, id: Uuid, chunks: Vec<DumpChunk>) -> Fingerprints {
    let ((feed, mut rows), (asking, agree)) = (restore_rows(), agreement());
    let at = chrono::DateTime::UNIX_EPOCH;
    let arrival = Arrival { id, from: "elsewhere".to_owned(), at };
    let path = target.to_owned();
    let receiving = spawn_blocking(move || sqlite::receive(&path, &mut rows, &arrival, asking));
    let giving = spawn_blocking(move || {
        for chunk in chunks {
            assert!(feed.chunk(chunk.table, chunk.lines));
        }
        feed.whole();
    });
    giving.await.unwrap();
    let (found, answer) = agree.found().await.unwrap();
    answer.send(()).unwrap();
    receiving.await.unwrap().unwrap();
    found
}

/// A run that was killed leaves its file. What is there is not written again, and counts at the end.
#[rstest]
#[case::goes_on(true, false, None)]
#[case::and_does_not_write_again(true, true, Some("signer_nonces"))]
#[case::another_transfer_begins_anew(false, true, None)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_transfer_took_stays(
    #[case] same: bool,
    #[case] changed: bool,
    #[case] difference: Option<&str>,
) {
    let chunks = chunks().await;
    let folder = tempfile::tempdir().unwrap();
    let [target, left] = ["target.db", "left.db"].map(|name| folder.path().join(name));
    let id = Uuid::now_v7();
    let first = chunks.iter().position(|chunk| chunk.table == "signer_nonces").unwrap();

    // What the file is when two of the three chunks are there.
    let ((feed, mut rows), (asking, _agree)) = (restore_rows(), agreement());
    let at = chrono::DateTime::UNIX_EPOCH;
    let arrival = Arrival { id, from: "elsewhere".to_owned(), at };
    let path = target.clone();
    let receiving = spawn_blocking(move || sqlite::receive(&path, &mut rows, &arrival, asking));
    let some = chunks[..=first + 1].to_vec();
    let giving = spawn_blocking(move || {
        for chunk in some {
            assert!(feed.chunk(chunk.table, chunk.lines));
        }
        feed
    });
    let feed = giving.await.unwrap();
    let unfinished = beside(&target, ".restoring");
    let there = RawSql::sqlite(&unfinished);
    wait_for("two chunks", async || {
        (there.number("count(*) FROM signer_nonces").await == 20_000).then_some(())
    })
    .await;
    there.execute(&format!("VACUUM INTO '{}'", left.display())).await;
    drop(feed);
    receiving.await.unwrap().unwrap_err();
    assert!(!unfinished.exists(), "it failed, and was not killed");

    std::fs::rename(&left, &unfinished).unwrap();
    if changed {
        let change = "UPDATE signer_nonces SET used_at = 0 WHERE nonce = 'n1'";
        RawSql::sqlite(&unfinished).execute(change).await;
    }
    let mut given = Fingerprints::default();
    for chunk in &chunks {
        given.add_chunk(chunk);
    }
    let id = if same { id } else { Uuid::now_v7() };
    let found = receive(&target, id, chunks).await;
    assert_eq!(found.rows(), given.rows());
    assert_eq!(given.difference(&found), difference);
    assert!(target.exists() && !unfinished.exists());
}
