//! Row-level security on PostgreSQL: a role that reads sees the rows of one DID, and the service never
//! reads through a policy.

use std::collections::BTreeSet;

use onceguard::domain::{Did, DidFilter, NewDid, Opened, PageRequest, Precondition};
use onceguard::storage::{Store, StoreError};
use rstest::rstest;
use url::Url;

use crate::support::Database::{Memory, Postgres, Sqlite};
use crate::support::{
    Database, RawSql, TestStore, a_change, a_did, a_new_did, a_new_record, a_nonce, a_record_key,
    a_session_between, an_event, ask_all, by_signer, changed, claim, database_url, in_seconds,
    in_session, opened, store_at, unique,
};

/// Every table with rows of a DID.
const SECURED: [&str; 9] = [
    "dids",
    "events",
    "nonces",
    "record_blobs",
    "record_owners",
    "records",
    "sessions",
    "signer_nonces",
    "signers",
];

/// One row of a DID in every table, and one of another DID.
async fn one_row_each(store: &TestStore) -> [Did; 2] {
    let dids = [a_did(), a_did()];
    for did in &dids {
        let new = NewDid { did: did.clone(), ..a_new_did() };
        store.put_did(new, an_event("onceguard.did.stored", did)).await.unwrap();
        let session = opened(store, a_session_between(did, &a_did())).await;
        claim(store, &in_session(session.id, a_nonce())).await;
        let expires_at = in_seconds(store, 60).await;
        claim(store, &by_signer(did, a_nonce(), expires_at)).await;
        let key = a_record_key("sync", "r");
        changed(store, did, a_change(&key, Precondition::Absent, Some(a_new_record(b"x")))).await;
    }
    dids
}

async fn counts(raw: &RawSql) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in SECURED {
        counts.push(raw.number(&format!("count(*) FROM {table}")).await);
    }
    counts
}

fn a_role() -> String {
    format!("reader_{}", unique())
}

async fn drop_role(raw: &RawSql, role: &str) {
    raw.execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_rows_of_its_did_and_no_others() {
    let store = Postgres.store().await;
    let [one, other] = one_row_each(&store).await;
    let (raw, role) = (store.raw(), a_role());
    store.secure_rows(&role).await.unwrap();
    // Done again, it is the same.
    store.secure_rows(&role).await.unwrap();

    raw.execute(&format!("SET ROLE {role}")).await;
    assert_eq!(counts(raw).await, [0; 9], "without the setting");
    for did in [&one, &other] {
        raw.execute(&format!("BEGIN; SET LOCAL onceguard.did = '{did}'")).await;
        assert_eq!(counts(raw).await, [1; 9]);
        let own = format!("count(*) FROM sessions WHERE client_did = '{did}'");
        assert_eq!(raw.number(&own).await, 1);
        raw.execute("COMMIT").await;
        assert_eq!(counts(raw).await, [0; 9], "after the transaction that set it");
    }
    raw.execute("SET onceguard.did = 'did:web'").await;
    assert_eq!(counts(raw).await, [0; 9], "of another DID");

    raw.execute(&format!("SET onceguard.did = '{one}'")).await;
    for sql in [
        "SELECT session_key FROM sessions",
        "SELECT * FROM api_tokens",
        "SELECT * FROM sealing_keys",
        "UPDATE dids SET owner_address = 'x'",
        "DELETE FROM nonces",
        "INSERT INTO signers (signer, did) VALUES ('\\x00112233445566778899aabbccddeeff', 'x')",
        "SET row_security = off; SELECT count(*) FROM sessions",
    ] {
        assert!(raw.try_execute(sql).await.is_err(), "not refused: {sql}");
    }
    raw.execute("RESET ROLE; RESET row_security").await;
    assert!(counts(raw).await.iter().all(|count| *count >= 2), "an administrator sees all");

    // Another reader takes its place.
    let next = a_role();
    store.secure_rows(&next).await.unwrap();
    raw.execute(&format!("SET ROLE {role}")).await;
    assert!(raw.try_execute("SELECT count(*) FROM sessions").await.is_err());
    raw.execute(&format!("RESET ROLE; SET ROLE {next}")).await;
    assert_eq!(counts(raw).await, [1; 9]);

    raw.execute("RESET ROLE").await;
    assert_eq!(store.open_rows().await.unwrap(), std::slice::from_ref(&next));
    assert_eq!(store.open_rows().await.unwrap(), Vec::<String>::new());
    assert_eq!(raw.number("count(*) FROM pg_policy").await, 0);
    let secured = "count(*) FROM pg_class WHERE relrowsecurity OR relforcerowsecurity";
    assert_eq!(raw.number(secured).await, 0);
    raw.execute(&format!("SET ROLE {next}")).await;
    assert!(raw.try_execute("SELECT count(*) FROM sessions").await.is_err());
    drop_role(raw, &role).await;
    drop_role(raw, &next).await;
}

/// A migration that adds a table with rows of a DID has to say who sees them.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_that_names_a_did_is_secured() {
    let store = Postgres.store().await;
    let (raw, role) = (store.raw(), a_role());
    store.secure_rows(&role).await.unwrap();
    let names = async |of: &str| {
        let names = raw.text(&format!("string_agg(DISTINCT {of}")).await;
        names.split(',').map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let secured = names(
        "relname, ',') FROM pg_class WHERE relrowsecurity AND relforcerowsecurity \
         AND relkind = 'r'",
    )
    .await;
    assert_eq!(secured, SECURED.map(str::to_owned).into());
    let with_did = names(
        "table_name, ',') FROM information_schema.columns \
         WHERE table_schema = 'public' AND column_name LIKE '%did'",
    )
    .await;
    assert!(with_did.is_subset(&secured), "{with_did:?}");
    // The schema can still be taken away.
    store.migrate_down(None).await.unwrap();
    store.migrate_up().await.unwrap();
    drop_role(raw, &role).await;
}

/// A role that may do what the service does, and a store that is connected by it.
async fn serving_as(store: &TestStore, role: &str) -> Store {
    let raw = store.raw();
    raw.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    raw.execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
    let mut url = Url::parse(&store.postgres_url()).unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some("secret")).unwrap();
    store_at(&database_url(url.as_str())).await
}

fn unavailable<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

/// What a policy hides would read as "not revoked" and "not used".
#[tokio::test(flavor = "multi_thread")]
async fn the_service_fails_rather_than_read_through_a_policy() {
    let store = Postgres.store().await;
    let (raw, role) = (store.raw(), a_role());
    let service = serving_as(&store, &role).await;
    let revoked = a_did();
    let event = || an_event("onceguard.did.revoked", &revoked);
    service.revoke_did(&revoked, event()).await.unwrap();
    let expires_at = in_seconds(&store, 60).await;
    let spent = by_signer(&a_did(), a_nonce(), expires_at);
    claim(&service, &spent).await;
    let session = opened(&service, a_session_between(&a_did(), &a_did())).await;
    let by_revoked = by_signer(&revoked, a_nonce(), expires_at);
    let open = || a_session_between(&revoked, &a_did());
    assert_eq!(service.open_session(open()).await.unwrap(), Opened::Revoked(revoked.clone()));

    for table in SECURED {
        raw.execute(&format!(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY hides ON {table} TO {role} USING (false) WITH CHECK (true)"
        ))
        .await;
    }
    unavailable(&service.did(&revoked).await);
    unavailable(&service.open_session(open()).await);
    unavailable(&service.session(session.id).await);
    unavailable(&service.list_dids(&DidFilter::default(), &page()).await);
    for asked in ask_all(&service, &[spent.clone(), by_revoked.clone()]).await {
        unavailable(&asked);
    }
    unavailable(&ask_all(&service, &[in_session(session.id, a_nonce())]).await.remove(0));
    let findings = service.findings().await.unwrap();
    let fatal = findings.iter().find(|finding| finding.what.contains("BYPASSRLS")).unwrap();
    assert!(fatal.fatal && fatal.what.contains("dids") && fatal.what.contains(&role), "{fatal:?}");
    service.close().await;

    // A role that bypasses policies reads everything.
    raw.execute(&format!("ALTER ROLE {role} BYPASSRLS")).await;
    let mut url = Url::parse(&store.postgres_url()).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("secret")).unwrap();
    let service = store_at(&database_url(url.as_str())).await;
    assert_eq!(service.open_session(open()).await.unwrap(), Opened::Revoked(revoked.clone()));
    assert_eq!(claim(&service, &spent).await.as_str(), "replayed");
    let findings = service.findings().await.unwrap();
    assert!(findings.iter().all(|finding| !finding.fatal), "{findings:?}");
    let foreign = findings.iter().find(|finding| finding.what.contains("hides on dids"));
    assert!(foreign.is_some(), "{findings:?}");
    service.close().await;
    drop_role(raw, &role).await;
}

fn page() -> PageRequest {
    PageRequest { limit: 10, after: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_stop_the_service_or_show_everything_is_refused() {
    let store = Postgres.store().await;
    let (raw, role) = (store.raw(), a_role());
    let service = serving_as(&store, &role).await;
    let refused = async |reader: &str, word: &str| {
        let answer = service.secure_rows(reader).await;
        let Err(StoreError::Unsuitable(why)) = answer else { panic!("{answer:?}") };
        assert!(why.contains(word), "{why}");
        assert_eq!(raw.number("count(*) FROM pg_policy").await, 0);
    };
    let reader = a_role();
    refused(&reader, "does not own").await;
    for table in SECURED {
        raw.execute(&format!("ALTER TABLE {table} OWNER TO {role}")).await;
    }
    refused(&reader, "BYPASSRLS").await;
    raw.execute(&format!("ALTER ROLE {role} BYPASSRLS")).await;
    refused(&reader, "CREATE ROLE").await;
    refused(&role, "bypasses policies").await;
    raw.execute(&format!("CREATE ROLE {reader}; GRANT {role} TO {reader}")).await;
    refused(&reader, "member").await;
    raw.execute(&format!("REVOKE {role} FROM {reader}")).await;
    service.secure_rows(&reader).await.unwrap();

    // An owner that bypasses policies writes and reads as before.
    let session = opened(&service, a_session_between(&a_did(), &a_did())).await;
    let nonce = in_session(session.id, a_nonce());
    assert_eq!(claim(&service, &nonce).await.as_str(), "accepted");
    assert_eq!(claim(&service, &nonce).await.as_str(), "replayed");

    let told = async |words: &[&str]| {
        let found = service.findings().await.unwrap();
        let found: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
        let about = |what: &&&str| what.contains("row-level") || what.contains("policies");
        let found: Vec<_> = found.iter().filter(about).collect();
        assert_eq!(found.len(), words.len(), "{found:?}");
        assert!(found.iter().zip(words).all(|(found, word)| found.contains(word)), "{found:?}");
    };
    told(&[]).await;
    raw.execute("ALTER TABLE nonces NO FORCE ROW LEVEL SECURITY").await;
    raw.execute("DROP POLICY rows_of_a_did ON events").await;
    told(&["not for events, nonces"]).await;
    raw.execute(&format!("CREATE POLICY all_of_it ON dids TO {reader} USING (true)")).await;
    told(&["not for events, nonces", "all_of_it on dids"]).await;
    raw.execute("DROP POLICY all_of_it ON dids").await;
    service.secure_rows(&reader).await.unwrap();
    told(&[]).await;
    service.close().await;
    let superuser = raw.text("current_user").await;
    raw.execute(&format!("REASSIGN OWNED BY {role} TO {superuser}")).await;
    drop_role(raw, &reader).await;
    drop_role(raw, &role).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_has_no_roles(#[values(Sqlite, Memory)] on: Database) {
    let store = on.store().await;
    for answer in [store.secure_rows("reader").await, store.open_rows().await.map(drop)] {
        let Err(StoreError::Unsuitable(why)) = answer else { panic!("{answer:?}") };
        assert!(why.contains("SQLite") && why.contains("PostgreSQL"), "{why}");
    }
}
