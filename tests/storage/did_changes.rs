//! Changes of DIDs reach whoever watches, through another store and past any store; and a gap in
//! what is heard is told.

use std::collections::BTreeMap;

use onceguard::domain::{Did, DidFilter, Gone, NewDid, PageRequest, PublicKey};
use onceguard::storage::{Answer, DidChange, DidChanges, PurgeStep, Reading, Store};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    ChaosProxy, DEADLINE, TestStore, a_did, a_new_did, a_public_key, a_reading, an_event,
    database_url, days, did, minutes, purge_batch, store_at, wait_for,
};

const LISTENERS: &str = "FROM pg_stat_activity WHERE query = 'LISTEN dids' \
                         AND datname = current_database()";

async fn hears(changes: &mut DidChanges, expected: DidChange) {
    let change = tokio::time::timeout(DEADLINE, changes.next()).await;
    assert_eq!(change, Ok(Some(expected)));
}

fn changed(did: &Did) -> DidChange {
    DidChange::Changed(did.clone())
}

fn revoked(did: &Did, here: bool) -> DidChange {
    DidChange::Revoked { did: did.clone(), here }
}

async fn revoke(store: &Store, did: &Did) {
    store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn it_begins_with_everything_and_ends_with_the_store(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    store.close().await;
    if on == Postgres {
        assert_eq!(store.watch_dids().next().await, None);
    } else {
        drop(store);
    }
    assert_eq!(changes.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_sqlite_by_another_process_may_be_anything() {
    let store = Sqlite.store().await;
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    store.put_did(a_new_did(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.raw().execute("DELETE FROM dids").await;
    hears(&mut changes, DidChange::Everything).await;
    let page = PageRequest { limit: 10, after: None };
    assert_eq!(store.list_dids(&DidFilter::default(), &page).await.unwrap().items, []);
}

/// Each change is told, in order, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn changes_through_another_store_are_told() {
    let store = Postgres.store().await;
    let other = store.another().await;
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;

    let new = a_new_did();
    let read = a_did();
    other.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    hears(&mut changes, changed(&new.did)).await;
    // The same once more, and a session's opening, change nothing that is told.
    other.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    other
        .put_did(
            NewDid { key: a_public_key(2), ..new.clone() },
            an_event("onceguard.did.stored", &"x"),
        )
        .await
        .unwrap();
    hears(&mut changes, changed(&new.did)).await;
    other.forget_did(&new.did, an_event("onceguard.did.forgotten", &"x")).await.unwrap();
    hears(&mut changes, changed(&new.did)).await;
    other.forget_did(&new.did, an_event("onceguard.did.forgotten", &"x")).await.unwrap();

    let reading = Reading { version: Some(1), ..a_reading(&other, &read, 1).await };
    other.record_did(reading.clone()).await.unwrap();
    hears(&mut changes, changed(&read)).await;
    let later = reading.asked_at + minutes(1);
    let again = Reading { asked_at: later, version: Some(2), ..reading.clone() };
    other.record_did(again.clone()).await.unwrap();
    other.record_did(reading).await.unwrap();
    let gone = Reading { answer: Answer::Gone(Gone::NotFound), ..again.clone() };
    other.record_did(gone).await.unwrap();
    hears(&mut changes, changed(&read)).await;
    other.record_did(again.clone()).await.unwrap();
    hears(&mut changes, changed(&read)).await;
    let other_key = a_reading(&other, &read, 2).await;
    other.record_did(Reading { asked_at: later, ..other_key }).await.unwrap();
    hears(&mut changes, changed(&read)).await;

    revoke(&other, &new.did).await;
    hears(&mut changes, revoked(&new.did, false)).await;
    revoke(&other, &new.did).await;
    store.pass(days(8)).await;
    let step = PurgeStep::DeleteUnusedDids { unused: days(7) };
    assert_eq!(purge_batch(&other, step, 10).await.dids_deleted, 1);
    hears(&mut changes, changed(&read)).await;

    // Its own, too: its answer may have been lost.
    revoke(&store, &read).await;
    hears(&mut changes, revoked(&read, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_hand_are_told() {
    let store = Postgres.store().await;
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    let (one, two) = (did("did:a:1"), did("did:a:2"));
    let raw = store.raw();
    let long = "did:a:".to_owned() + &"ü".repeat(5_000);

    raw.execute("INSERT INTO dids (did, revoked, revoked_at) VALUES ('did:a:1', true, now())")
        .await;
    hears(&mut changes, revoked(&one, false)).await;
    raw.execute("BEGIN; INSERT INTO dids (did, document) VALUES ('did:a:3', '{}'); ROLLBACK").await;
    raw.execute("INSERT INTO dids (did, document) VALUES ('did:a:1b', '{}')").await;
    hears(&mut changes, changed(&did("did:a:1b"))).await;
    raw.execute("UPDATE dids SET did = 'did:a:2' WHERE did = 'did:a:1b'").await;
    hears(&mut changes, changed(&did("did:a:1b"))).await;
    hears(&mut changes, changed(&two)).await;
    raw.execute("UPDATE dids SET owner_address = '0x1' WHERE did = 'did:a:2'").await;
    hears(&mut changes, changed(&two)).await;
    raw.execute("UPDATE dids SET revoked = true, revoked_at = now() WHERE did = 'did:a:2'").await;
    hears(&mut changes, revoked(&two, false)).await;
    raw.execute("SET onceguard.instance = 'a b'").await;
    raw.execute("INSERT INTO dids (did, revoked, revoked_at) VALUES ('did:a:4', true, now())")
        .await;
    hears(&mut changes, DidChange::Everything).await;
    raw.execute(&format!("INSERT INTO dids (did, document) VALUES ('{long}', '{{}}')")).await;
    hears(&mut changes, DidChange::Everything).await;
    raw.execute("TRUNCATE dids").await;
    hears(&mut changes, DidChange::Everything).await;
}

async fn hang_up(store: &TestStore) {
    store.raw().number(&format!("count(pg_terminate_backend(pid)) {LISTENERS}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_told_and_replaced() {
    let store = Postgres.store().await;
    let other = store.another().await;
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    for _ in 0..3 {
        hang_up(&store).await;
        hears(&mut changes, DidChange::Blind).await;
        hears(&mut changes, DidChange::Everything).await;
        let new = a_new_did();
        other.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
        hears(&mut changes, changed(&new.did)).await;
    }
}

/// A network that swallows everything, or a server that hangs: nothing is ever closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fell_silent_is_told_and_replaced() {
    let store = Postgres.store().await;
    let proxy = ChaosProxy::in_front_of(&store.postgres_url()).await;
    let far = store_at(&database_url(&proxy.url(&store.postgres_url()))).await;
    let mut changes = far.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    proxy.freeze(true);
    hears(&mut changes, DidChange::Blind).await;
    let new = a_new_did();
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    proxy.freeze(false);
    // Nothing of the connection that was given up comes late.
    hears(&mut changes, DidChange::Everything).await;
    revoke(&store, &new.did).await;
    hears(&mut changes, revoked(&new.did, false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for() {
    let store = Postgres.store().await;
    let proxy = ChaosProxy::in_front_of(&store.postgres_url()).await;
    let far = store_at(&database_url(&proxy.url(&store.postgres_url()))).await;
    proxy.refuse(true);
    proxy.cut();
    let mut changes = far.watch_dids();
    let new = a_new_did();
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    proxy.refuse(false);
    hears(&mut changes, DidChange::Everything).await;
    store.forget_did(&new.did, an_event("onceguard.did.forgotten", &"x")).await.unwrap();
    hears(&mut changes, changed(&new.did)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_for_nobody() {
    let store = Postgres.store().await;
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    assert_eq!(store.raw().number(&format!("count(*) {LISTENERS}")).await, 1);
    drop(changes);
    wait_for("the connection to be closed", async || {
        (store.raw().number(&format!("count(*) {LISTENERS}")).await == 0).then_some(())
    })
    .await;
}

/// What is stored of each DID, as somebody knows it who only reads what he is told of.
struct Mirror {
    store: Store,
    keys: BTreeMap<Did, Option<PublicKey>>,
    gaps: u32,
}

impl Mirror {
    async fn read(&mut self, did: &Did) {
        let key = self.store.did(did).await.unwrap().and_then(|record| record.key);
        self.keys.insert(did.clone(), key);
    }

    async fn follow(&mut self, change: DidChange) {
        match change {
            DidChange::Changed(did) | DidChange::Revoked { did, .. } => self.read(&did).await,
            DidChange::Everything => {
                for did in self.keys.keys().cloned().collect::<Vec<_>>() {
                    self.read(&did).await;
                }
            }
            DidChange::Blind => self.gaps += 1,
        }
    }
}

/// Connections are lost at any moment while DIDs change; whoever follows what is told knows in
/// the end what is there.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_in_a_gap() {
    let store = Postgres.store().await;
    let other = store.another().await;
    let dids: Vec<_> = (0..5).map(|_| a_did()).collect();
    let last = a_did();
    let mut changes = store.watch_dids();
    hears(&mut changes, DidChange::Everything).await;
    let keys = dids.iter().chain([&last]).map(|did| (did.clone(), None)).collect();
    let mut mirror = Mirror { store: (*store).clone(), keys, gaps: 0 };
    let write = async {
        for round in 0..60_u8 {
            for (number, did) in dids.iter().enumerate() {
                if (usize::from(round) + number) % 7 == 0 {
                    other.forget_did(did, an_event("onceguard.did.forgotten", &"x")).await.unwrap();
                } else {
                    let key = a_public_key(round);
                    let new = NewDid { did: did.clone(), key, owner_address: None };
                    other.put_did(new, an_event("onceguard.did.stored", &"x")).await.unwrap();
                }
            }
            if round % 6 == 0 {
                hang_up(&store).await;
            }
        }
        other
            .put_did(
                NewDid { did: last.clone(), ..a_new_did() },
                an_event("onceguard.did.stored", &"x"),
            )
            .await
            .unwrap();
    };
    let follow = async {
        while mirror.keys[&last].is_none() {
            mirror.follow(changes.next().await.unwrap()).await;
        }
        mirror
    };
    let ((), mirror) = tokio::join!(write, follow);
    assert!(mirror.gaps > 0, "no connection was lost");
    for did in &dids {
        let stored = other.did(did).await.unwrap().and_then(|record| record.key);
        assert_eq!(mirror.keys[did], stored);
    }
}
