//! Migrations: the same in both databases, up and down, with data, and never in a race.

use onceguard::domain::{Accepted, Claim, Gone, Outcome};
use onceguard::storage::{Answer, MigrationStatus, Reading, StoreError};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_did, a_new_did, a_nonce, a_reading, a_session, an_event, by_signer, claim, claim_all,
    in_seconds, in_session, opened,
};

/// The names of the folders of one database's migrations.
fn folders(database: &str) -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        // The diesel command's own set-up, not one of ours.
        .filter(|name| !name.starts_with("00000000000000_"))
        .collect();
    names.sort();
    names
}

fn names(statuses: &[MigrationStatus]) -> Vec<&str> {
    statuses.iter().map(|status| status.name.as_str()).collect()
}

#[test]
fn both_databases_have_the_same_migrations() {
    assert_eq!(folders("postgres"), folders("sqlite"));
    assert!(!folders("postgres").is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_binary_has_the_migrations_of_the_folders(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.unmigrated().await;
    let statuses = store.migrations().await.unwrap();
    assert_eq!(names(&statuses), folders("postgres"), "oldest first");
    assert!(statuses.iter().all(|status| status.known && !status.applied), "{statuses:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_up_and_down(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.unmigrated().await;
    let all = folders("postgres");
    let applied = async || {
        let statuses = store.migrations().await.unwrap();
        statuses.iter().filter(|status| status.applied).count()
    };
    assert_eq!(store.migrate_down(None).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.migrate_up().await.unwrap(), all);
    assert_eq!(applied().await, all.len());
    assert_eq!(store.migrate_up().await.unwrap(), Vec::<String>::new());

    let mut newest_first = all.clone();
    newest_first.reverse();
    assert_eq!(store.migrate_down(Some(0)).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.migrate_down(Some(2)).await.unwrap(), newest_first[..2]);
    assert_eq!(applied().await, all.len() - 2);
    assert_eq!(store.migrate_up().await.unwrap(), all[all.len() - 2..]);
    assert_eq!(store.migrate_down(None).await.unwrap(), newest_first);
    assert_eq!(applied().await, 0);
    assert_eq!(store.migrate_up().await.unwrap(), all);
    opened(&store, a_session()).await;
}

/// With rows in every table: each migration can be reverted and made again.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_down_and_up_with_data(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let fill = async || {
        let session = opened(&store, a_session()).await;
        claim(&store, &in_session(session.id, a_nonce())).await;
        let expires_at = in_seconds(&store, 60).await;
        claim(&store, &by_signer(&session.client_did, a_nonce(), expires_at)).await;
        let new = a_new_did();
        store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
        store.revoke_did(&new.did, an_event("onceguard.did.revoked", &new.did)).await.unwrap();
        let read = a_reading(&store, &a_did(), 1).await;
        store.record_did(read).await.unwrap();
        store.add_sealing_key("k1", b"check").await.unwrap();
        store.take_lease("purge", "a", std::time::Duration::from_secs(1)).await.unwrap();
        session.id
    };
    let id = fill().await;
    let last = store.migrate_down(Some(1)).await.unwrap();
    assert_eq!(store.migrate_up().await.unwrap(), last);
    assert!(store.session(id).await.unwrap().is_some(), "the newest migration made other tables");
    store.migrate_down(None).await.unwrap();
    store.migrate_up().await.unwrap();
    assert_eq!(store.session(id).await.unwrap(), None);
    fill().await;
}

/// Before `did_documents` nothing said that a key may not be used any more, or until when.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_resolvers_read_is_forgotten_by_a_schema_without_it(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (read, gone, revoked, stored) = (a_did(), a_did(), a_did(), a_new_did());
    for did in [&read, &gone, &revoked] {
        store.record_did(a_reading(&store, did, 1).await).await.unwrap();
    }
    let reading = a_reading(&store, &gone, 1).await;
    let reading = Reading { answer: Answer::Gone(Gone::NotFound), ..reading };
    store.record_did(reading).await.unwrap();
    store.put_did(stored.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.revoke_did(&revoked, an_event("onceguard.did.revoked", &revoked)).await.unwrap();
    let revoked_at = store.did(&revoked).await.unwrap().unwrap().revoked_at;

    let newest = folders("postgres").len();
    let since = folders("postgres").iter().position(|name| name.ends_with("did_documents"));
    let count = u32::try_from(newest - since.unwrap()).unwrap();
    store.migrate_down(Some(count)).await.unwrap();
    store.migrate_up().await.unwrap();
    for did in [&read, &gone] {
        assert_eq!(store.did(did).await.unwrap(), None);
    }
    assert_eq!(store.did(&revoked).await.unwrap().unwrap().revoked_at, revoked_at);
    assert_eq!(store.did(&stored.did).await.unwrap().unwrap().key, Some(stored.key));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn how_far_nonces_were_purged_is_kept_by_a_schema_without_generations(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let until = in_seconds(&store, 7_200).await;
    let literal = store.raw().time(until);
    store.raw().execute(&format!("UPDATE history SET purged_until = {literal}")).await;
    let generation = store.history().await.unwrap().generation;
    let newest = folders("postgres").len();
    let since = folders("postgres").iter().position(|name| name.ends_with("generation"));
    store.migrate_down(Some(u32::try_from(newest - since.unwrap()).unwrap())).await.unwrap();
    store.migrate_up().await.unwrap();
    let history = store.history().await.unwrap();
    assert_eq!(history.purged_until, Some(until));
    assert_ne!(history.generation, generation, "it is random");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_with_longer_nonces_has_the_same(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let mut claims = Vec::new();
    for _ in 0..3 {
        let session = opened(&store, a_session()).await.id;
        claims.extend([a_nonce(), a_nonce()].map(|nonce| in_session(session, nonce)));
    }
    let repeated = Claim { idempotency: Some([7; 16]), ..claims[0].clone() };
    let claims: Vec<_> = std::iter::once(repeated).chain(claims.into_iter().skip(1)).collect();
    claim_all(&store, &claims).await;
    let before = store.raw().rows("nonces").await;

    let newest = folders("postgres").len();
    let since = folders("postgres").iter().position(|name| name.ends_with("short_nonces"));
    store.migrate_down(Some(u32::try_from(newest - since.unwrap()).unwrap())).await.unwrap();
    let nonces = "count(*) FROM nonces WHERE expires_at > used_at";
    assert_eq!(store.raw().number(nonces).await, 6);
    store.migrate_up().await.unwrap();
    assert_eq!(store.raw().rows("nonces").await, before);
    let again = claim_all(&store, &claims).await;
    assert!(matches!(again[0], Outcome::Accepted(Accepted { repeated: true, .. })), "{again:?}");
    assert!(again[1..].iter().all(|outcome| outcome.as_str() == "replayed"), "{again:?}");
    // The number of a session that is gone leads to no nonce of another.
    store.raw().execute("DELETE FROM sessions").await;
    let table = store.raw().session_nonces();
    assert_eq!(store.raw().number(&format!("count(*) FROM {table}")).await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn reverting_everything_leaves_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store.migrate_down(None).await.unwrap();
    let left = match on {
        Postgres => {
            "count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'public' AND c.relname NOT LIKE '\\_\\_diesel%'"
        }
        Sqlite | Memory => {
            "count(*) FROM sqlite_schema \
             WHERE name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'"
        }
    };
    assert_eq!(store.raw().number(left).await, 0);
    if on == Postgres {
        let functions = "count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                         WHERE n.nspname = 'public' AND p.proname NOT LIKE 'diesel%'";
        assert_eq!(store.raw().number(functions).await, 0);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_take_turns(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.unmigrated().await;
    let other = if on == Postgres { store.another().await } else { (*store).clone() };
    let (one, two) = tokio::join!(store.migrate_up(), other.migrate_up());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!([one, two].concat(), folders("postgres"), "each migration once");
    opened(&store, a_session()).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_binarys_migration_is_told(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store
        .raw()
        .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000001')")
        .await;
    let statuses = store.migrations().await.unwrap();
    let last = statuses.last().unwrap();
    assert!(last.applied && !last.known, "{last:?}");
    assert!(last.name.contains("99991231000001"), "{last:?}");
    // Reverting what it does not know is refused, and nothing is reverted.
    let error = store.migrate_down(Some(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Migration(_)), "{error:?}");
    opened(&store, a_session()).await;
}

/// The audit log became the log of events, and becomes it again.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_becomes_the_log_of_events(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let did = a_did();
    store.revoke_did(&did, an_event("onceguard.did.revoked", &did)).await.unwrap();
    store.publish(vec![an_event("test.of-a-caller", &"x")]).await.unwrap();
    store.link_events().await.unwrap();
    let newest = folders("postgres").len();
    let before = folders("postgres").iter().position(|name| name.ends_with("_events")).unwrap();
    store.migrate_down(Some(u32::try_from(newest - before).unwrap())).await.unwrap();
    let old = |action: &str| {
        format!("count(*) FROM audit_events WHERE action = '{action}' AND actor = 'operator'")
    };
    assert_eq!(store.raw().number(&old("did.revoke")).await, 1);
    assert_eq!(store.raw().number(&old("test.of-a-caller")).await, 1);
    assert!(store.raw().try_execute("UPDATE audit_events SET actor = 'x'").await.is_err());
    store.migrate_up().await.unwrap();
    let events = store.newest_events(10).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert!(kinds.contains(&"onceguard.did.revoked"), "{kinds:?}");
    let revoked = events.iter().find(|event| event.kind.ends_with("revoked")).unwrap();
    assert_eq!(revoked.subject.as_deref(), Some(did.as_str()));
    assert_eq!(revoked.data.to_value(), serde_json::json!({"why": "test"}));
    assert_eq!(revoked.source, "onceguard");
}
