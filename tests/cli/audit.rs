//! `onceguard audit verify`: each change of the log by SQL is found and named.

use std::sync::Arc;

use onceguard::config::{DatabaseUrl, SealingKeyBytes};
use onceguard::domain::{Hash, LinkedEvent, NO_HASH, link};
use onceguard::metrics::Metrics;
use onceguard::services::{Heads, SealingKeys};
use onceguard::storage::Store;
use rstest::rstest;
use serde_json::Value;

use crate::sealing::sealing_key;
use crate::support::{
    Database::{self, Postgres, Sqlite},
    Finished, Home, RawSql, an_event, database_url, hex, store_at,
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
    &["event 3 was emptied, and no erasure and no purge says so"]
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

/// A log in which `onceguard purge` emptied what callers published long ago: the events 6, 7, 9 and 10.
/// Event 8 is one of the service's own, and event 11 a caller's that is younger. Event 12 names those
/// that were emptied. The triggers are off.
async fn purged(on: Database) -> (Home, RawSql) {
    let (home, raw) = logged(on).await;
    let store = opened(&home).await;
    let of_caller = || an_event("com.example.paid", &"order 7");
    store.publish(vec![of_caller(), of_caller()]).await.unwrap();
    store.publish(vec![an_event("onceguard.did.revoked", &"did:web:a.example")]).await.unwrap();
    store.publish(vec![of_caller(), of_caller()]).await.unwrap();
    let long_ago = match on {
        Postgres => "now() - interval '31 days'",
        _ => "(unixepoch() - 31 * 86400) * 1000000",
    };
    raw.execute(&format!("UPDATE events SET at = {long_ago} WHERE sequence IS NULL")).await;
    store.publish(vec![of_caller()]).await.unwrap();
    link_all(&store).await;
    sign(&home, on, &store).await;
    let done = json(home.run(&["purge", "--json"]).await);
    assert_eq!((&done["events_emptied"], &done["events_deleted"]), (&4.into(), &0.into()));
    link_all(&store).await;
    sign(&home, on, &store).await;
    store.close().await;
    (home, raw)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_purge_emptied_is_told_from_what_another_hand_did(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let (home, raw) = purged(on).await;
    let told = json(home.run(&["audit", "verify", "--json"]).await);
    assert_eq!((&told["purged"], &told["erased"]), (&4.into(), &0.into()));
    assert_eq!(told["findings"], serde_json::json!([]));
    assert!(verify(&home).await.success().contains("0 are erased and 4 purged"));
    let listed = json(home.run(&["audit", "list", "--type", "onceguard.erased", "--json"]).await);
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.iter().map(|item| &item["sequence"]).collect::<Vec<_>>(), [6, 7, 9, 10]);
    assert_eq!((&items[0]["subject"], &items[0]["data"]), (&Value::Null, &serde_json::json!({})));
    // A later purge finds nothing, and the log stays whole.
    let again = json(home.run(&["purge", "--json"]).await);
    assert_eq!(again["events_emptied"], 0);
    assert_eq!(raw.number("count(*) FROM events WHERE type = 'onceguard.events.purged'").await, 1);
}

#[rstest]
#[case::own("type = 'onceguard.erased', subject = NULL, actor = NULL, data = '{}', salt = NULL", 8,
    &["event 8 was emptied, and no erasure and no purge says so"])]
#[case::younger("type = 'onceguard.erased', source = 'onceguard', subject = NULL, actor = NULL, \
    data = '{}', salt = NULL", 11, &["event 11 was emptied, and no erasure and no purge says so"])]
#[case::refilled("subject = 'order 8'", 9, &["event 9 (", "was changed"])]
#[case::other_commitment("commitment = hash", 9, &["event 9 (", "does not follow the one before it"])]
#[case::other_purge("data = '{\"count\": 6, \"purged\": [[6, 11]]}'", 12,
    &["event 12 (", "was changed", "events 6 to 7 were emptied", "events 9 to 10 were emptied"])]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_a_purged_log_is_found_and_named(
    #[values(Sqlite, Postgres)] on: Database,
    #[case] set: &str,
    #[case] sequence: u64,
    #[case] named: &[&str],
) {
    let (home, raw) = purged(on).await;
    raw.execute(&format!("UPDATE events SET {set} WHERE sequence = {sequence}")).await;
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
