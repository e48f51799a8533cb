//! PostgreSQL's defaults, which a database or a role may change: none of them matters, and what
//! cannot be used is refused by name.

use std::sync::Arc;

use futures_util::future::join_all;
use onceguard::clock::Clock;
use onceguard::config::DatabaseUrl;
use onceguard::domain::{Opened, Outcome};
use onceguard::metrics::Metrics;
use onceguard::storage::{ClaimLimits, Store, StoreError};
use rstest::rstest;

use crate::support::Database::Postgres;
use crate::support::{
    TestStore, a_did, a_nonce, a_session, an_event, asked, by_signer, claim, database_config,
    database_url, in_seconds, in_session, naming, opened, sessions_of, unique,
};

/// Defaults that would break statements, or promises.
const HOSTILE: [&str; 26] = [
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "synchronous_commit = off",
    "row_security = on",
    "zero_damaged_pages = on",
    "client_encoding = 'LATIN1'",
    "standard_conforming_strings = off",
    "transform_null_equals = on",
    "array_nulls = off",
    "TimeZone = 'Asia/Kathmandu'",
    "DateStyle = 'German, DMY'",
    "IntervalStyle = 'sql_standard'",
    "exit_on_error = on",
    "idle_session_timeout = '1s'",
    "idle_in_transaction_session_timeout = '1ms'",
    "statement_timeout = '200ms'",
    "lock_timeout = '1ms'",
    "search_path = 'hostile', 'pg_catalog', 'public'",
    "plan_cache_mode = 'force_custom_plan'",
    "enable_indexscan = off",
    "enable_nestloop = off",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "quote_all_identifiers = on",
    "client_min_messages = error",
    "session_replication_role = replica",
];

/// What every connection that works has, as the server's `pg_settings` says it.
const MADE_SURE_OF: [(&str, &str); 20] = [
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("synchronous_commit", "on"),
    ("row_security", "off"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("exit_on_error", "off"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "3000"),
    ("lock_timeout", "0"),
    ("session_replication_role", "origin"),
    ("zero_damaged_pages", "off"),
    ("search_path", "public"),
];

/// What only a superuser may set, or undo.
const OF_SUPERUSERS: [&str; 2] = ["session_replication_role", "zero_damaged_pages"];

async fn open(url: &DatabaseUrl) -> Result<Store, StoreError> {
    let limits = ClaimLimits { quota_per_signer: 100, quota_per_namespace: 100 };
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut config = database_config(url.clone());
    // Enough for all who race, for as long as they do.
    config.pool.max = 16;
    Store::open(&config, limits, metrics, Clock::system()).await
}

async fn refusal(url: &str) -> String {
    match open(&database_url(url)).await {
        Err(StoreError::Unsuitable(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it opened"),
    }
}

/// Its name is the last part of the URL's path.
fn name(url: &str) -> String {
    url::Url::parse(url).unwrap().path().trim_start_matches('/').to_owned()
}

/// The URL of another database, or for another role, on the same server.
fn url_with(url: &str, database: Option<&str>, role: Option<&str>) -> String {
    let mut url = url::Url::parse(url).unwrap();
    if let Some(database) = database {
        url.set_path(database);
    }
    if let Some(role) = role {
        url.set_username(role).unwrap();
        url.set_password(Some("secret")).unwrap();
    }
    url.into()
}

/// Things that statements would find first, if they looked for them in the schema `hostile`.
async fn add_a_hostile_schema(direct: &TestStore) {
    for sql in [
        "CREATE SCHEMA hostile",
        "GRANT USAGE ON SCHEMA hostile TO PUBLIC",
        "CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS \
         $$ SELECT '1970-01-01'::timestamptz $$",
        "CREATE TABLE hostile.sessions (id uuid)",
        "CREATE TABLE hostile.dids (did text)",
    ] {
        direct.raw().execute(sql).await;
    }
}

/// Opens sessions with a DID while it is revoked, over and over: none comes after that, and none
/// outlives it.
async fn race_openings_with_revocations(store: &Store, direct: &TestStore) {
    let sessions = sessions_of(store);
    for round in 0..15 {
        let did = a_did();
        let openers = (0..12).map(async |_| {
            let mut opened = 0;
            loop {
                let new = onceguard::domain::NewSession { client_did: did.clone(), ..a_session() };
                match sessions.open(asked(new)).await.unwrap() {
                    Opened::Created(_) => opened += 1,
                    Opened::Revoked(_) => return opened,
                    other => panic!("a new id was not opened: {other:?}"),
                }
            }
        });
        let count = format!("count(*) FROM sessions WHERE client_did = '{did}'");
        let revoked = async {
            // Some sessions come before.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let event = an_event("onceguard.did.revoked", &did);
            assert!(store.revoke_did(&did, event).await.unwrap().first);
            // Nothing more is awaited: what comes after would hide in it.
            direct.raw().number(&count).await
        };
        let (before, opened) = tokio::join!(revoked, join_all(openers));
        let after = direct.raw().number(&count).await;
        assert_eq!(after, before, "round {round}: {opened:?} were opened");
        while store.end_sessions_of_revoked(Some(&did), None, 100).await.unwrap() == 100 {}
        let active = direct.raw().number(&format!("{count} AND ended_at IS NULL")).await;
        assert_eq!(active, 0, "round {round}: {opened:?} were opened");
    }
}

/// Has the tables that sessions, claims and jobs begin with record what their connections have.
async fn record_settings(direct: &TestStore) {
    let names: Vec<_> = MADE_SURE_OF.iter().map(|(name, _)| format!("'{name}'")).collect();
    let record = format!(
        "CREATE TABLE seen (at text, name text, setting text); \
         CREATE FUNCTION record_settings() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO public.seen SELECT TG_TABLE_NAME, name, setting \
         FROM pg_catalog.pg_settings WHERE name IN ({}); RETURN NEW; END $$",
        names.join(", ")
    );
    direct.raw().execute(&record).await;
    for table in ["sessions", "nonces", "signer_nonces", "leases"] {
        let trigger = format!(
            "CREATE TRIGGER record_settings BEFORE INSERT ON public.{table} \
             FOR EACH ROW EXECUTE FUNCTION public.record_settings()"
        );
        direct.raw().execute(&trigger).await;
    }
}

/// What was recorded is what every connection has.
async fn assert_settings(direct: &TestStore) {
    for (name, setting) in MADE_SURE_OF {
        for table in ["sessions", "nonces", "signer_nonces", "leases"] {
            let setting = match (name, table) {
                // Batches wait for a lock only for a moment.
                ("lock_timeout", "sessions" | "nonces" | "signer_nonces") => "200",
                _ => setting,
            };
            let seen = format!("FROM public.seen WHERE at = '{table}' AND name = '{name}'");
            let all = direct.raw().number(&format!("count(*) {seen}")).await;
            let right = format!("count(*) {seen} AND setting = '{setting}'");
            assert!(all > 0, "{name} in {table}");
            assert_eq!(direct.raw().number(&right).await, all, "{name} in {table}");
        }
    }
}

/// A claim of every kind, each twice.
async fn claim_twice(store: &Store) {
    let mut counted = a_session();
    counted.max_claims = Some(5);
    let (plain, counted) = (opened(store, a_session()).await, opened(store, counted).await);
    let expires_at = in_seconds(store, 300).await;
    for claimed in [
        in_session(plain.id, a_nonce()),
        in_session(counted.id, a_nonce()),
        by_signer(&a_did(), a_nonce(), expires_at),
        naming(by_signer(&plain.client_did, a_nonce(), expires_at), plain.id),
    ] {
        assert!(matches!(claim(store, &claimed).await, Outcome::Accepted(_)), "{claimed:?}");
        assert!(matches!(claim(store, &claimed).await, Outcome::Replayed { .. }), "{claimed:?}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_defaults_of_a_database_do_not_matter(
    #[values("repeatable read", "serializable")] isolation: &str,
) {
    let direct = Postgres.unmigrated().await;
    add_a_hostile_schema(&direct).await;
    let name = name(&direct.postgres_url());
    let isolation = format!("default_transaction_isolation = '{isolation}'");
    for setting in HOSTILE.into_iter().chain([isolation.as_str()]) {
        direct.raw().execute(&format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    let store = open(direct.url()).await.unwrap();
    store.migrate_up().await.unwrap();
    let tables = "count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = 'nonces'";
    assert_eq!(direct.raw().number(tables).await, 1);
    record_settings(&direct).await;
    claim_twice(&store).await;
    let hour = std::time::Duration::from_hours(1);
    assert!(store.take_lease("job", "me", hour).await.unwrap());
    assert_settings(&direct).await;
    race_openings_with_revocations(&store, &direct).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_defaults_of_a_role_do_not_matter() {
    let direct = Postgres.store().await;
    add_a_hostile_schema(&direct).await;
    let role = format!("hostile_{}", unique());
    direct.raw().execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    direct.raw().execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
    let isolation = "default_transaction_isolation = 'repeatable read'";
    for setting in HOSTILE.into_iter().chain([isolation]) {
        if !OF_SUPERUSERS.iter().any(|name| setting.starts_with(name)) {
            direct.raw().execute(&format!("ALTER ROLE {role} SET {setting}")).await;
        }
    }
    let url = url_with(&direct.postgres_url(), None, Some(&role));
    let store = open(&database_url(&url)).await.unwrap();
    claim_twice(&store).await;
    race_openings_with_revocations(&store, &direct).await;
    store.close().await;

    // This one it cannot undo.
    let [replication, _] = OF_SUPERUSERS;
    direct.raw().execute(&format!("ALTER ROLE {role} SET {replication} = replica")).await;
    let why = refusal(&url).await;
    assert!(why.contains(replication), "{why}");
    direct.raw().execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_utf8_is_an_encoding_that_will_do(
    #[values("LATIN1", "EUC_KR", "SQL_ASCII")] encoding: &str,
) {
    let direct = Postgres.unmigrated().await;
    let name = format!("encoded_{}", unique());
    let create = format!(
        "CREATE DATABASE {name} ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' \
         TEMPLATE template0"
    );
    direct.raw().execute(&create).await;
    let why = refusal(&url_with(&direct.postgres_url(), Some(&name), None)).await;
    assert!(why.contains(&format!("encoding is {encoding}")) && why.contains("UTF8"), "{why}");
    direct.raw().execute(&format!("DROP DATABASE {name}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_public_or_the_one_that_the_url_names() {
    let direct = Postgres.unmigrated().await;
    direct.raw().execute("CREATE SCHEMA apart").await;
    let url = direct.postgres_url();
    let apart = open(&database_url(&format!("{url}&options=-csearch_path%3Dapart"))).await.unwrap();
    apart.migrate_up().await.unwrap();
    claim_twice(&apart).await;
    apart.close().await;
    let tables = "count(*) FROM pg_tables WHERE schemaname = 'apart' AND tablename = 'nonces'";
    assert_eq!(direct.raw().number(tables).await, 1);

    // A default that leads there is not the operator's word to onceguard; and an empty schema
    // beside these tables is not taken for an empty database.
    let set = format!("ALTER DATABASE {} SET search_path = apart", name(&url));
    direct.raw().execute(&set).await;
    let why = refusal(&url).await;
    assert!(why.contains("in the schema apart") && why.contains("search_path%3Dapart"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_there_is_named() {
    let direct = Postgres.unmigrated().await;
    let url = format!("{}&options=-csearch_path%3Dnowhere", direct.postgres_url());
    let why = refusal(&url).await;
    assert!(why.contains("no schema"), "{why}");
}

/// As a server does that has become a standby under its connections.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_server_that_takes_no_writes_are_replaced_in_every_pool() {
    let direct = Postgres.store().await;
    let store = open(direct.url()).await.unwrap();
    claim_twice(&store).await;
    let name = name(&direct.postgres_url());
    let raw = direct.raw();
    raw.execute(&format!(
        "CREATE TABLE seen AS SELECT pid FROM pg_stat_activity \
         WHERE datname = '{name}' AND application_name = 'onceguard'"
    ))
    .await;
    raw.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'cannot execute INSERT in a read-only transaction' \
         USING ERRCODE = '25006'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON leases FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let hour = std::time::Duration::from_hours(1);
    let refused = store.take_lease("job", "me", hour).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("read-only")));
    raw.execute("DROP TRIGGER refuse ON leases").await;
    raw.execute("CREATE TABLE refused AS SELECT clock_timestamp() AS at").await;
    assert!(store.take_lease("job", "me", hour).await.unwrap());
    claim_twice(&store).await;
    let used =
        "count(*) FROM pg_stat_activity JOIN seen USING (pid), refused WHERE query_start > at";
    assert_eq!(raw.number(used).await, 0, "connections of before are used");
    store.close().await;
}
