//! Starting: the first admin token, the files in the data folder, and what stops a start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use onceguard::app::StartError;
use onceguard::config::{Config, DatabaseUrl, Need, SealingKeyBytes, Sources, SqliteLocation};
use onceguard::domain::Actor;
use onceguard::services::AdminToken;
use rstest::rstest;
use serde_json::json;
use zeroize::Zeroizing;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, TestApp, http_client, start_application};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn another_sealing_key() -> SealingKeyBytes {
    SealingKeyBytes(Zeroizing::new([8; 32]))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_makes_an_admin_token_that_later_ones_keep(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let mut app = TestApp::start(on).await;
    let file = app.data_dir().join("admin.token");
    assert_eq!(app.application().admin_token, AdminToken::Created(file.clone()));
    let first = std::fs::read_to_string(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
    let token = first.strip_suffix('\n').unwrap();
    assert!(token.starts_with("og_") && token.len() == 46, "a curl line can $(cat …) it");
    app.get("/v1/stats").await.is(200);
    let admin = app.tokens().list().await.unwrap();
    assert_eq!((admin.len(), admin[0].name.as_str()), (1, "admin"));

    app.restart().await;
    assert_eq!(app.application().admin_token, AdminToken::InFile(file.clone()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    app.get("/v1/stats").await.is(200);
    assert_eq!(app.tokens().list().await.unwrap().len(), 1);

    // A folder that lost its file does not make a second admin.
    std::fs::remove_file(&file).unwrap();
    app.restart().await;
    assert_eq!(app.application().admin_token, AdminToken::Elsewhere);
    assert!(!file.exists());
    app.with_token(Some(token)).get("/v1/stats").await.is(200);
    let made = app.store().newest_events(10).await.unwrap();
    assert_eq!(made.iter().filter(|event| event.kind == "onceguard.token.created").count(), 1);
}

/// Whatever `auth.admin_token` takes must also let its bearer in.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_token_may_be_configured(#[values(Sqlite, Postgres)] on: Database) {
    let token = "og_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let variables = [("ONCEGUARD_AUTH__ADMIN_TOKEN", token)];
    let loaded = Sources::default().environment(variables).load(Need::Database).unwrap();
    let mut app = TestApp::start_with(on, |config| config.auth = loaded.config.auth).await;
    assert_eq!(app.application().admin_token, AdminToken::Configured);
    assert!(!app.data_dir().join("admin.token").exists());
    app.with_token(Some(token)).get("/v1/stats").await.is(200);
    app.restart().await;
    app.with_token(Some(token)).get("/v1/stats").await.is(200);
    assert_eq!(app.tokens().list().await.unwrap().len(), 1);
}

/// Else whoever stole it would be let in again by a restart.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_admin_token_stops_the_start(#[values(Sqlite, Postgres)] on: Database) {
    let text = "og_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let configure = |config: &mut Config| config.auth.admin_token = Some(text.to_owned().into());
    let mut app = TestApp::start_with(on, configure).await;
    let [token] = &app.tokens().list().await.unwrap()[..] else { panic!("not one token") };
    app.tokens().revoke(token.id, Actor::Operator).await.unwrap().unwrap();
    app.stop().await;
    let before = app.data().await;
    let error = fails(&app, configure).await.to_string();
    assert!(error.starts_with("auth.admin_token: this token was revoked"), "{error}");
    assert!(!error.contains(text), "{error}");
    assert_eq!(app.data().await, before);
    // Without it the database has tokens, but none that lets anybody in.
    app.restart_with(|config| config.auth.admin_token = None).await;
    assert_eq!(app.application().admin_token, AdminToken::NoneValid);
    app.with_token(Some(text)).get("/v1/stats").await.refused(401, "unauthenticated");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_bound_addresses_are_written_down(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let read = |name: &str| std::fs::read_to_string(app.data_dir().join(name)).unwrap();
    let api: std::net::SocketAddr = read("listen.addr").trim().parse().unwrap();
    let ops: std::net::SocketAddr = read("ops.addr").trim().parse().unwrap();
    assert_ne!(api.port(), 0);
    assert_eq!((api, ops), (app.application().api_address, app.application().ops_address));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_sealing_key_is_made_and_kept() {
    let mut app = TestApp::start_with(Sqlite, |config| config.sealing.key = None).await;
    let file = app.data_dir().join("sealing.key");
    assert_eq!(mode(&file), 0o600);
    let first = std::fs::read_to_string(&file).unwrap();
    assert!(SealingKeyBytes::from_base64(first.trim()).is_some());
    let opened = app.open_with(json!({"session_key": "c2VjcmV0"})).await.text_of("id");
    app.restart().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    let key = app.get(&format!("/v1/sessions/{opened}/key")).await.is(200);
    assert_eq!(key["session_key"], "c2VjcmV0");
}

/// Starts a second service as `change` has it, and returns why it does not.
async fn fails(app: &TestApp, change: impl FnOnce(&mut Config)) -> StartError {
    let mut config = app.config().clone();
    change(&mut config);
    let started = start_application(config, app.store().clock()).await;
    started.err().expect("this must not start")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sealing_key_stops_the_start(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    app.open_with(json!({"session_key": "c2VjcmV0"})).await;
    app.stop().await;
    let before = app.data().await;
    let error = fails(&app, |config| config.sealing.key = Some(another_sealing_key())).await;
    assert!(matches!(error, StartError::Sealing(_)), "{error:?}");
    assert_eq!(app.data().await, before);
    // The old key beside the new one opens what it sealed.
    app.restart_with(|config| {
        config.sealing.old_keys = config.sealing.key.take().into_iter().collect();
        config.sealing.key = Some(another_sealing_key());
    })
    .await;
    let list = app.get("/v1/sessions").await;
    let id = list["items"][0]["id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/v1/sessions/{id}/key")).await["session_key"], "c2VjcmV0");
}

/// The database was sealed with the one that is lost: another could open nothing in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sealing_key_is_not_replaced_by_a_new_one() {
    let mut app = TestApp::start(Sqlite).await;
    app.stop().await;
    let file = app.config().data_dir.join("sealing.key");
    let error = fails(&app, |config| config.sealing.key = None).await;
    assert!(error.to_string().contains("put the database's key back"), "{error}");
    assert!(!file.exists());
}

/// Whoever waits for the addresses of a start must not read those of the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_removes_the_addresses_of_the_one_before() {
    let mut app = TestApp::start(Sqlite).await;
    app.stop().await;
    let files = ["listen.addr", "ops.addr"].map(|name| app.config().data_dir.join(name));
    assert!(files.iter().all(|file| file.exists()));
    fails(&app, |config| config.sealing.key = Some(another_sealing_key())).await;
    assert!(!files.iter().any(|file| file.exists()));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_serves_one_at_a_time(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let error = fails(&app, |_| {}).await;
    assert!(matches!(error, StartError::DataDir(_)), "{error:?}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
    app.get("/v1/sessions").await.is(200);
    app.restart().await;
    app.get("/v1/sessions").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named() {
    let app = TestApp::start(Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let taken = app.api_address();
    let error = fails(&app, |config| {
        config.data_dir = folder.path().to_owned();
        config.server.listen = taken;
    })
    .await;
    let StartError::Setting { key, message } = &error else { panic!("{error:?}") };
    assert_eq!(*key, "server.listen");
    assert!(message.contains(&taken.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_cannot_be_read_are_named() {
    let app = TestApp::start(Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let names = async |named: &str, change: fn(&mut Config, PathBuf)| {
        let error = fails(&app, |config| {
            config.data_dir = folder.path().to_owned();
            change(config, file.clone());
        });
        let error = error.await;
        let StartError::Setting { key, message } = &error else { panic!("{error:?}") };
        assert_eq!(*key, named);
        assert!(message.contains(file.to_str().unwrap()), "{error}");
    };
    names("resolvers.web.ca_file", |config, file| {
        config.resolvers.web.enabled = true;
        config.resolvers.web.ca_file = Some(file);
    })
    .await;
    names("webhooks.ca_file", |config, file| config.webhooks.ca_file = Some(file)).await;
}

/// PostgreSQL is shared: a start changes its schema only when it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn pending_migrations_stop_the_start_on_postgresql() {
    let mut app = TestApp::start(Postgres).await;
    app.stop().await;
    app.store().migrate_down(Some(1)).await.unwrap();
    let error = fails(&app, |_| {}).await.to_string();
    assert!(error.contains("onceguard migrate"), "{error}");
    assert!(app.store().migrations().await.unwrap().iter().any(|one| !one.applied));
    app.restart_with(|config| config.database.migrate_on_start = true).await;
    app.session().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_serves_until_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let sources = Sources::default().flag("--data-dir", "data_dir", Some(path));
    let mut config = sources.load(Need::Everything).unwrap().config;
    config.server.listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    config.ops.listen = config.server.listen;
    config.database.url = DatabaseUrl::Sqlite(SqliteLocation::Memory);
    let app = start_application(config, &onceguard::clock::Clock::system()).await.unwrap();
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let base = format!("http://{}", app.api_address);
    let caller = Caller::new(http_client().build().unwrap(), base, Some(token.trim()));
    let session = caller.session().await;
    let path = format!("/v1/sessions/{session}/nonces");
    caller.post(&path, &json!({"nonce": "n"})).await.is(201);
    caller.post(&path, &json!({"nonce": "n"})).await.refused(409, "nonce_replayed");
    drop(caller);
    app.stop().await;
    assert!(!folder.path().join("onceguard.db").exists());
}
