//! What the tables themselves refuse, whoever writes: CHECKs, keys, cascades, triggers.

use rstest::rstest;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    TestStore, a_new_did, a_nonce, a_session, an_event, by_signer, claim, in_seconds, in_session,
    minutes, nonce, opened,
};

async fn refused(store: &TestStore, sql: &str) {
    let result = store.raw().try_execute(sql).await;
    assert!(result.is_err(), "not refused: {sql}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_keep_their_times_in_order(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    opened(&store, a_session()).await;
    refused(&store, "UPDATE sessions SET expires_at = created_at").await;
    refused(&store, "UPDATE sessions SET deadline = created_at").await;
    refused(&store, "UPDATE sessions SET client_did = NULL").await;
    refused(&store, "INSERT INTO sessions SELECT * FROM sessions").await;
    store.raw().execute("UPDATE sessions SET expires_at = deadline").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_there_once_and_expires_after_its_use(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    claim(&store, &in_session(session.id, a_nonce())).await;
    let expires_at = in_seconds(&store, 60).await;
    claim(&store, &by_signer(&session.client_did, a_nonce(), expires_at)).await;
    for table in [store.raw().session_nonces(), "signer_nonces"] {
        assert_eq!(store.raw().number(&format!("count(*) FROM {table}")).await, 1);
        refused(&store, &format!("INSERT INTO {table} SELECT * FROM {table}")).await;
        refused(&store, &format!("UPDATE {table} SET nonce = NULL")).await;
        // On SQLite, the expiry of a session's nonce is the session's deadline.
        if table != "session_nonces" {
            refused(&store, &format!("UPDATE {table} SET expires_at = used_at")).await;
        }
    }
    refused(&store, "UPDATE signers SET live = -1").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nonces_leave_with_their_session(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let (one, two) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    for session in [&one, &one, &two] {
        claim(&store, &in_session(session.id, a_nonce())).await;
    }
    let id = store.raw().id(one.id);
    store.raw().execute(&format!("DELETE FROM sessions WHERE id = {id}")).await;
    let table = store.raw().session_nonces();
    assert_eq!(store.raw().number(&format!("count(*) FROM {table}")).await, 1);
}

/// On SQLite, a table with a shorter key is behind it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nonces_of_sessions_look_the_same_on_both_databases(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    claim(&store, &in_session(session.id, nonce("used"))).await;
    let (raw, id) = (store.raw(), store.raw().id(session.id));
    let deadline =
        format!("count(*) FROM sessions WHERE deadline = {}", raw.time(session.deadline));
    assert_eq!(raw.number(&deadline).await, 1);
    let row = format!(
        "count(*) FROM nonces WHERE session_id = {id} AND nonce = 'used' AND idempotency IS NULL \
         AND expires_at = {} AND used_at < expires_at",
        raw.time(session.deadline)
    );
    assert_eq!(raw.number(&row).await, 1);
    raw.execute(&format!(
        "INSERT INTO nonces (session_id, nonce, used_at, expires_at) \
         SELECT session_id, 'by-hand', used_at, expires_at FROM nonces WHERE session_id = {id}"
    ))
    .await;
    let outcome = claim(&store, &in_session(session.id, nonce("by-hand"))).await;
    assert_eq!(outcome.as_str(), "replayed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_is_known_or_revoked(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store.put_did(a_new_did(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    refused(&store, "UPDATE dids SET public_key = NULL, key_type = NULL").await;
    refused(&store, "UPDATE dids SET document = '{}', key_type = NULL").await;
    refused(&store, "UPDATE dids SET gone = 'elsewhere'").await;
    refused(&store, "UPDATE dids SET version = -1").await;
    refused(&store, "INSERT INTO dids SELECT * FROM dids").await;
    store
        .raw()
        .execute("UPDATE dids SET public_key = NULL, key_type = NULL, document = '{}'")
        .await;
    store.raw().execute("UPDATE dids SET version = 0, gone = 'deactivated'").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_takes_a_revocation_back(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let new = a_new_did();
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.revoke_did(&new.did, an_event("onceguard.did.revoked", &new.did)).await.unwrap();
    refused(&store, "UPDATE dids SET revoked = false").await;
    refused(&store, "UPDATE dids SET revoked = false, revoked_at = NULL").await;
    refused(&store, "UPDATE dids SET revoked_at = NULL").await;
    refused(&store, "DELETE FROM dids").await;
    assert!(store.did(&new.did).await.unwrap().unwrap().revoked_at.is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_did_by_hand_is_dated(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let new = a_new_did();
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    if on == Sqlite {
        store.raw().execute("UPDATE dids SET updated_at = updated_at - 60000000").await;
    } else {
        store.pass(minutes(1)).await;
    }
    let before = store.did(&new.did).await.unwrap().unwrap();
    store.raw().execute("UPDATE dids SET owner_address = '0xabc'").await;
    let after = store.did(&new.did).await.unwrap().unwrap();
    assert_eq!(after.owner_address.as_deref(), Some("0xabc"));
    assert!(after.updated_at > before.updated_at);
    assert_eq!(after.created_at, before.created_at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_not_rewritten(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store.publish(vec![an_event("test", &"subject")]).await.unwrap();
    refused(&store, "UPDATE events SET actor = 'other'").await;
}

/// The server's zone is not UTC in these tests: a time without zone would be off by hours.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_time_has_a_zone() {
    let store = Postgres.store().await;
    let without = "count(*) FROM information_schema.columns \
                   WHERE table_schema = 'public' AND data_type = 'timestamp without time zone' \
                   AND table_name NOT LIKE '\\_\\_%'";
    assert_eq!(store.raw().number(without).await, 0);
    let now = store.now().await.unwrap();
    let clock = store.clock().now();
    assert!((now - clock).num_minutes().abs() < 60, "{now} is not UTC (it is {clock})");
}
