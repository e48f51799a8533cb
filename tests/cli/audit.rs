//! `onceguard audit verify`: each change of the log by SQL is found and named.

use std::sync::Arc;

use onceguard::config::{DatabaseUrl, SealingKeyBytes};
use onceguard::domain::{Hash, LinkedEvent, NO_HASH, link};
use onceguard::metrics::Metrics;
use onceguard::services::{Heads, SealingKeys};
use onceguard::storage::Store;
use rstest::rstest;

use crate::sealing::sealing_key;
use crate::support::{
    Database::{self, Postgres, Sqlite},
    Finished, Home, RawSql, database_url, hex, store_at,
};
use crate::{assert_failed, json, migrated};

/// How many events the seed leaves.
const EVENTS: u64 = 5;

async fn opened(home: &Home) -> Store {
    let url = home.url();
    let sqlite = url.starts_with("sqlite:");
    let url = if sqlite { DatabaseUrl::parse(&url).unwrap() } else { database_url(&url) };
    store_at(&url).await
}

async fn link_all(store: &Store) {
    while store.unlinked_for().await.unwrap().is_some() {
        store.link_events().await.unwrap();
    }
}

async fn sign(home: &Home, on: Database, store: &Store) {
    let key = SealingKeyBytes::from_base64(&sealing_key(home, on)).unwrap();
    let keys = SealingKeys::new(vec![key]).unwrap().head_keys();
    let metrics = Arc::new(Metrics::new().unwrap());
    Heads::new(store, keys, home.folder(), &metrics).sign().await.unwrap();
}

/// A log of [`EVENTS`] events with a signed head, whose triggers are off.
async fn logged(on: Database) -> (Home, RawSql) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let store = opened(&home).await;
    link_all(&store).await;
    assert_eq!(store.event_chain().await.unwrap().sequence, EVENTS);
    sign(&home, on, &store).await;
    store.close().await;
    let raw = home.raw().await;
    raw.execute(match on {
        Postgres => "ALTER TABLE events DISABLE TRIGGER events_stay",
        _ => "DROP TRIGGER events_are_append_only",
    })
    .await;
    (home, raw)
}

async fn verify(home: &Home) -> Finished {
    home.run(&["audit", "verify"]).await
}

fn assert_found(verified: &Finished) {
    assert_eq!(verified.code(), 1, "{verified:?}");
    assert!(verified.stderr.contains("the log is not as it was written"), "{verified:?}");
}

/// The row that says where the log ends is moved to where it ends now.
const MOVE_END: &str = "UPDATE event_chain SET sequence = (SELECT max(sequence) FROM events), \
                        hash = (SELECT hash FROM events ORDER BY sequence DESC LIMIT 1)";

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_as_it_was_written_passes(#[values(Sqlite, Postgres)] on: Database) {
    let (home, _raw) = logged(on).await;
    let told = json(home.run(&["audit", "verify", "--json"]).await);
    assert_eq!((&told["events"], &told["signed_until"]), (&EVENTS.into(), &EVENTS.into()));
    assert_eq!((&told["findings"], &told["erased"]), (&serde_json::json!([]), &0.into()));
    assert!(verify(&home).await.success().contains("5 events"));
    // What is linked after the last head is part of it.
    home.run(&["token", "create", "--name", "one", "--scope", "admin"]).await.success();
    let store = opened(&home).await;
    link_all(&store).await;
    store.close().await;
    assert!(verify(&home).await.success().contains("6 events"));
}

#[rstest]
#[case::changed(&["UPDATE events SET actor = 'other' WHERE sequence = 3"], &["event 3 (", "was changed"])]
#[case::changed_data(&["UPDATE events SET data = '{}' WHERE sequence = 2"], &["event 2 (", "was changed"])]
#[case::removed(&["DELETE FROM events WHERE sequence = 3"], &["event 3 was removed"])]
#[case::removed_and_closed_up(
    &["DELETE FROM events WHERE sequence = 3",
      "UPDATE events SET sequence = sequence + 100 WHERE sequence > 3",
      "UPDATE events SET sequence = sequence - 101 WHERE sequence > 100", MOVE_END],
    &["event 3 (", "event 4 (", "was cut off: it ends at event 4, and it had event 5"]
)]
#[case::inserted(
    &["UPDATE events SET sequence = sequence + 100 WHERE sequence > 2",
      "UPDATE events SET sequence = sequence - 99 WHERE sequence > 100",
      "INSERT INTO events (id, sequence, type, source, subject, actor, outcome, at, data, salt, \
       commitment, hash) SELECT other.id, 3, e.type, e.source, e.subject, e.actor, e.outcome, e.at, \
       e.data, e.salt, e.commitment, e.hash FROM events AS e, other WHERE sequence = 2", MOVE_END],
    &["event 3 (", "was changed", "event 4 ("]
)]
#[case::swapped(
    &["UPDATE events SET sequence = 100 WHERE sequence = 2",
      "UPDATE events SET sequence = 2 WHERE sequence = 4",
      "UPDATE events SET sequence = 4 WHERE sequence = 100"],
    &["event 2 (", "event 4 (", "was changed"]
)]
#[case::cut_off(
    &["DELETE FROM events WHERE sequence > 3", MOVE_END, "DELETE FROM event_heads"],
    &["was cut off: it ends at event 3, and it had event 5"]
)]
#[case::end_only(
    &["DELETE FROM events WHERE sequence > 3", "DELETE FROM event_heads"],
    &["was cut off: it ends at event 3, and it had event 5"]
)]
#[case::emptied(
    &["UPDATE events SET type = 'onceguard.erased', subject = NULL, actor = NULL, data = '{}', \
       request_id = NULL, salt = NULL WHERE sequence = 3"],
    &["event 3 (", "was emptied, and no erasure says so"]
)]
#[case::beginning(
    &["UPDATE event_chain SET cut_sequence = 3, cut_hash = (SELECT hash FROM events WHERE \
       sequence = 3)", "DELETE FROM events WHERE sequence <= 3"],
    &["the beginning of the log was removed up to event 3"]
)]
#[case::other_log(
    &["UPDATE event_chain SET origin = (SELECT id FROM events LIMIT 1)"],
    &["has heads of another log"]
)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_the_log_is_found_and_named(
    #[values(Sqlite, Postgres)] on: Database,
    #[case] done: &[&str],
    #[case] named: &[&str],
) {
    let (home, raw) = logged(on).await;
    let id = match on {
        Postgres => "gen_random_uuid()",
        _ => "randomblob(16)",
    };
    raw.execute(&format!("CREATE TABLE other AS SELECT {id} AS id")).await;
    for sql in done {
        raw.execute(sql).await;
    }
    let verified = verify(&home).await;
    for text in named {
        assert!(verified.stdout.contains(text), "{text}: {verified:?}");
    }
    assert_found(&verified);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_changed_is_no_head(#[values(Sqlite, Postgres)] on: Database) {
    let (home, raw) = logged(on).await;
    let note = raw.text("note FROM event_heads").await;
    let other = note.replacen("\n5\n", "\n4\n", 1);
    assert_ne!(other, note);
    raw.execute(&format!("UPDATE event_heads SET note = '{other}'")).await;
    let verified = verify(&home).await;
    assert!(verified.stdout.contains("a head in the database has a signature"), "{verified:?}");
    assert_found(&verified);
}

/// With all of the database and the file in hand, a log can be made that is whole in itself. Only a
/// head that was kept elsewhere shows it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_written_anew_shows_by_its_signed_heads(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let (home, raw) = logged(on).await;
    let elsewhere = home.folder().join("kept-elsewhere");
    std::fs::copy(home.folder().join("audit-heads"), &elsewhere).unwrap();
    let store = opened(&home).await;
    let mut previous: Hash = NO_HASH;
    for LinkedEvent { mut event, .. } in store.linked_events(0, 100).await.unwrap() {
        if event.sequence == 2 {
            event.actor = Some("other".to_owned());
        }
        let link = link(&previous, [1; 16], &event);
        previous = link.hash;
        let bytes = |bytes: &[u8]| match on {
            Postgres => format!("'\\x{}'", hex(bytes)),
            _ => format!("x'{}'", hex(bytes)),
        };
        raw.execute(&format!(
            "UPDATE events SET actor = '{}', salt = {}, commitment = {}, hash = {} \
             WHERE sequence = {}",
            event.actor.unwrap(),
            bytes(&link.salt),
            bytes(&link.commitment),
            bytes(&link.hash),
            event.sequence,
        ))
        .await;
    }
    store.close().await;
    raw.execute(MOVE_END).await;
    raw.execute("DELETE FROM event_heads").await;
    let verified = verify(&home).await;
    assert!(verified.stdout.contains("up to event 5, it is another one than at"), "{verified:?}");
    assert_found(&verified);

    std::fs::remove_file(home.folder().join("audit-heads")).unwrap();
    let heads = elsewhere.to_str().unwrap();
    let verified = home.run(&["audit", "verify", "--heads", heads]).await;
    assert!(verified.stdout.contains("was written anew"), "{verified:?}");
    assert_found(&verified);
    let missing = home.run(&["audit", "verify", "--heads", "/no/such/file"]).await;
    assert_failed(&missing, 2, &["no such file"]);
}
