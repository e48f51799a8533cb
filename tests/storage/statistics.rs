//! Counts, sizes, and whether there is anything at all.

use onceguard::domain::{EndReason, NewToken, Precondition, RecordKind, TokenHash, TokenScopes};
use onceguard::storage::{Counts, RecordCounts, RecordWriter};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_change, a_did, a_new_did, a_new_record, a_nonce, a_record_key, a_session, an_event,
    by_signer, changed, claim, claim_all, in_seconds, in_session, minutes, no_limits, opened,
    purge_batch,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn counts_tell_what_there_is(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(store.counts().await.unwrap(), Counts::default());
    opened(&store, a_session()).await;
    let mut idle = a_session();
    (idle.ttl_seconds, idle.idle_timeout_seconds) = (36_000, Some(60));
    opened(&store, idle).await;
    store.pass(minutes(61)).await;
    let ended = opened(&store, a_session()).await;
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    let live = [opened(&store, a_session()).await.id, opened(&store, a_session()).await.id];
    let expires_at = in_seconds(&store, 60).await;
    let claims = [
        in_session(live[0], a_nonce()),
        in_session(live[1], a_nonce()),
        by_signer(&a_did(), a_nonce(), expires_at),
    ];
    claim_all(&store, &claims).await;
    let known = a_new_did();
    store.put_did(known.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.put_did(a_new_did(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.revoke_did(&known.did, an_event("onceguard.did.revoked", &known.did)).await.unwrap();
    // PostgreSQL estimates nonces from its planner's statistics.
    store.raw().execute("ANALYZE").await;

    let counts = store.counts().await.unwrap();
    // Cheap counts may take an idle session for active until the purge has recorded its end.
    assert!([2, 3].contains(&counts.active_sessions), "expired is not active: {counts:?}");
    assert_eq!(counts.live_nonces, 3);
    assert_eq!((counts.dids, counts.revoked_dids), (2, 1));

    purge_batch(&store, onceguard::storage::PurgeStep::EndOverdueSessions, 10).await;
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.active_sessions, counts.ended_sessions), (2, 3));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_are_counted_by_their_owners(#[values(Sqlite, Memory, Postgres)] on: Database) {
    use RecordWriter::{Agent, Holder};
    let store = on.store().await;
    let [agent, vouched, gone] = [a_did(), a_did(), a_did()];
    for (owner, writer, kind, size) in [
        (&agent, Agent, "sync", 10),
        (&agent, Agent, "key", 1),
        (&vouched, Holder, "sync", 100),
        (&vouched, Agent, "sync2", 100),
        (&gone, Agent, "sync", 1000),
    ] {
        let key = a_record_key(kind, "r");
        let put = a_change(&key, Precondition::Absent, Some(a_new_record(&vec![1; size])));
        store.change_records(owner, writer, vec![put], no_limits()).await.unwrap();
    }
    // A tombstone counts as a record, and is of no kind.
    changed(&store, &agent, a_change(&a_record_key("key", "r"), Precondition::Present, None)).await;
    // What is erased does not count, although it is still to be removed.
    let event = an_event("onceguard.records.deleted", &gone);
    assert_eq!(store.erase_records(&gone, None, event).await.unwrap(), Some(1));

    let expected =
        RecordCounts { owners: 2, records: 4, bytes: 210, agents_records: 2, agents_bytes: 10 };
    assert_eq!(store.counts().await.unwrap().records, expected);
    let kinds = |kinds: Vec<(RecordKind, u64)>| -> Vec<_> {
        kinds.into_iter().map(|(kind, count)| (kind.as_str().to_owned(), count)).collect()
    };
    let found = kinds(store.statistics(10).await.unwrap().top_kinds);
    assert_eq!(found, [("sync".to_owned(), 2), ("sync2".to_owned(), 1)]);
    assert_eq!(kinds(store.statistics(1).await.unwrap().top_kinds).len(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn statistics_name_the_busiest_clients_and_every_table(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let clients = [a_did(), a_did(), a_did()];
    for (client, sessions) in clients.iter().zip([1, 3, 2]) {
        for _ in 0..sessions {
            let mut new = a_session();
            new.client_did = client.clone();
            opened(&store, new).await;
        }
    }
    // Most sessions of all, and none of them active.
    let gone = a_did();
    for _ in 0..5 {
        let mut new = a_session();
        new.client_did = gone.clone();
        let id = opened(&store, new).await.id;
        store.end_session(id, EndReason::Ended, None).await.unwrap();
    }

    let statistics = store.statistics(2).await.unwrap();
    let top = [(clients[1].clone(), 3), (clients[2].clone(), 2)];
    assert_eq!(statistics.top_clients, top);
    assert_eq!(statistics.counts.active_sessions, 6);
    assert!(statistics.database_bytes > 0);
    for table in ["sessions", "nonces", "signer_nonces", "dids", "events"] {
        let found = statistics.tables.iter().find(|size| size.name == table);
        let size = found.unwrap_or_else(|| panic!("{table} is missing: {statistics:?}"));
        assert!(size.bytes <= statistics.database_bytes);
    }
    let sessions = statistics.tables.iter().find(|size| size.name == "sessions").unwrap();
    assert!(sessions.bytes > 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_holds_data_from_the_first_row_on(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values("session", "signer", "did", "revocation")] row: &str,
) {
    let store = on.store().await;
    // What a start writes is not data.
    let token = NewToken {
        id: uuid::Uuid::now_v7(),
        name: "admin".into(),
        hash: TokenHash([1; 32]),
        scopes: TokenScopes::new(vec![]),
        binding: None,
        ttl_seconds: None,
    };
    store.create_token(token, an_event("onceguard.token.created", &"x")).await.unwrap();
    store.add_sealing_key("k1", b"check").await.unwrap();
    store.take_lease("purge", "a", minutes(1)).await.unwrap();
    assert!(!store.holds_data().await.unwrap());

    match row {
        "session" => {
            opened(&store, a_session()).await;
        }
        "signer" => {
            let expires_at = in_seconds(&store, 60).await;
            claim(&store, &by_signer(&a_did(), a_nonce(), expires_at)).await;
        }
        "did" => {
            store.put_did(a_new_did(), an_event("onceguard.did.stored", &"x")).await.unwrap();
        }
        _ => {
            let did = a_did();
            store.revoke_did(&did, an_event("onceguard.did.revoked", &did)).await.unwrap();
        }
    }
    assert!(store.holds_data().await.unwrap());
}
