//! Secrets stay secret: each is planted where it belongs, everything is done with it, and then
//! it is looked for in the logs (at their most talkative), in answers and in `Debug` outputs.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::config::{Need, SealingKeyBytes, Sources};
use onceguard::domain::{SealedKey, TokenScope, TokenText};
use onceguard::services::SealingKeys;
use rstest::rstest;
use serde_json::json;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use zeroize::Zeroizing;

use crate::dids::ed25519;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, hex};

/// What is logged while a test listens.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LISTENING: AtomicBool = AtomicBool::new(false);

impl Log {
    /// Listens to everything that this process logs, at every level.
    fn listen() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = Self::default();
            // The client of the tests is in this process too, and is not what is judged.
            let filter = dynamic_filter_fn(|metadata, _| {
                let of_client = ["hyper", "reqwest", "rustls::client"];
                LISTENING.load(Ordering::SeqCst)
                    && !of_client.iter().any(|target| metadata.target().starts_with(target))
            });
            let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
            let layer = layer.with_filter(filter);
            tracing_subscriber::registry().with(layer).try_init().unwrap();
            log
        });
        LISTENING.store(true, Ordering::SeqCst);
        log.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Every form in which a secret could show.
fn forms(secret: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(secret).into_owned();
    let list = format!("{secret:?}").trim_matches(['[', ']']).to_owned();
    vec![text, STANDARD.encode(secret), hex(secret), list]
}

#[track_caller]
fn assert_hidden(secrets: &[(&str, Vec<u8>)], place: &str, text: &str) {
    let (text, lower) = (text.to_owned(), text.to_lowercase());
    for (name, secret) in secrets {
        for form in forms(secret) {
            // base64 and base64url of a part of it, too.
            let part = &form[..form.len().min(24)];
            let found = text.contains(part) || lower.contains(&part.to_lowercase());
            assert!(!found, "the {name} shows in {place}, as {part}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_anywhere(#[values(Sqlite, Postgres)] on: Database) {
    let log = Log::listen();
    let sealing_key: [u8; 32] = *b"a-sealing-key-that-none-may-see!";
    let session_key = b"the session key that two parties share";
    let mut app = TestApp::start_with(on, |config| {
        config.sealing.key = Some(SealingKeyBytes(Zeroizing::new(sealing_key)));
    })
    .await;
    let (_, token) = app.token(&[TokenScope::Sessions], None).await;
    let mut secrets = vec![
        ("sealing key", sealing_key.to_vec()),
        ("session key", session_key.to_vec()),
        ("token", token.clone().into_bytes()),
        ("admin token", app.token_text().as_bytes().to_vec()),
    ];
    if let onceguard::config::DatabaseUrl::Postgres(options) = app.store().url() {
        let password = options.connection.get_password().expect("the tests' server has one");
        secrets.push(("database password", password.to_vec()));
    }

    let answers = use_everything(&app, &token, &STANDARD.encode(session_key)).await;
    for answer in &answers {
        assert_hidden(&secrets, "an answer", answer);
    }
    app.restart().await;
    let debug = format!("{:?} {:#?}", app.config(), app.config());
    assert_hidden(&secrets, "the configuration's Debug", &debug);
    app.stop().await;

    let logged = log.text();
    LISTENING.store(false, Ordering::SeqCst);
    assert!(logged.contains("onceguard::access"), "the log was heard");
    assert!(logged.contains(" TRACE ") || logged.contains(" DEBUG "));
    assert_hidden(&secrets, "the log", &logged);
}

/// Makes calls that carry the secrets, rightly and wrongly, and returns what was answered.
async fn use_everything(app: &TestApp, token: &str, key: &str) -> Vec<String> {
    let caller = app.with_token(Some(token));
    let opened = app.open_with(json!({"session_key": key})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    let own = app.get(&format!("{path}/key")).await.is(200);
    assert_eq!(own["session_key"], key, "whoever may have it gets it");
    let wrong = |field: &str| json!({ field: key, "session_key": key, "ttl_seconds": 0 });
    let mut answers = vec![
        opened,
        app.get(&path).await,
        app.get("/v1/sessions?state=all").await,
        app.patch(&path, &json!({"session_key": key})).await,
        app.patch(&path, &wrong("metadata")).await,
        app.post("/v1/sessions", &wrong("client_did")).await,
        app.post("/v1/sessions", &json!({"session_key": format!("{key}!")})).await,
        app.post("/v1/sessions", &json!({"session_key": [key]})).await,
        app.request("POST", "/v1/sessions")
            .text(format!("{{\"session_key\":\"{key}\""))
            .send()
            .await,
        app.request("POST", "/v1/sessions").body(key.to_owned()).send().await,
        app.put("/v1/dids/did:web:a", &ed25519(1)).await,
        app.put("/v1/dids/did:web:a", &json!({"key_type": key, "public_key": key})).await,
        app.post(&format!("{path}/nonces"), &json!({"nonce": "n"})).await,
        app.get("/v1/stats").await,
        caller.get("/v1/sessions").await,
        caller.get("/v1/stats").await,
        caller.get(&format!("{path}/key")).await,
        app.with_token(Some(&format!("{token}x"))).get("/v1/sessions").await,
        app.anybody().request("GET", "/v1/sessions").header("authorization", token).send().await,
        app.anybody().get("/openapi.json").await,
        app.ops().get("/metrics").await,
        app.ops().get("/readyz").await,
    ];
    // A damaged key fails inside, and the log says why.
    app.store().raw().execute("UPDATE sessions SET key_id = 'other'").await;
    answers.push(app.get(&format!("{path}/key")).await.refused(500, "internal_error"));
    app.store().raw().break_audit_log().await;
    answers.push(app.delete(&path).await);
    answers.iter().map(|answer| format!("{answer:?}")).collect()
}

#[test]
fn config_show_masks_every_secret() {
    let (sealing, old) = ([b's'; 32], [b'o'; 32]);
    let token = TokenText::from_random(&[b't'; 32]).expose().to_owned();
    let variables = [
        ("ONCEGUARD_SEALING__KEY", STANDARD.encode(sealing)),
        ("ONCEGUARD_SEALING__OLD_KEYS", STANDARD.encode(old)),
        ("ONCEGUARD_AUTH__ADMIN_TOKEN", token.clone()),
        (
            "DATABASE_URL",
            "postgres://user:hush-hush-password@localhost/db?sslmode=disable".to_owned(),
        ),
    ];
    let secrets = [
        ("sealing key", sealing.to_vec()),
        ("old sealing key", old.to_vec()),
        ("admin token", token.clone().into_bytes()),
        ("database password", b"hush-hush-password".to_vec()),
    ];
    let sources = Sources::default().environment(variables.clone());
    let loaded = sources.load(Need::Everything).unwrap();
    for setting in &loaded.settings {
        assert_hidden(&secrets, &setting.key, &setting.value.to_string());
    }
    assert_hidden(&secrets, "Debug", &format!("{loaded:?} {loaded:#?}"));

    // Wrong ones are not repeated to whoever mistyped them.
    let wrong = [
        ("ONCEGUARD_SEALING__KEY", format!("{}!", STANDARD.encode(sealing))),
        ("ONCEGUARD_SEALING__OLD_KEYS", format!("{}?", STANDARD.encode(old))),
        ("ONCEGUARD_AUTH__ADMIN_TOKEN", format!("{token}.")),
        ("DATABASE_URL", "postgres://user:hush-hush-password@[localhost/db".to_owned()),
    ];
    let error = Sources::default().environment(wrong).load(Need::Everything).unwrap_err();
    assert_hidden(&secrets, "an error", &format!("{error} {error:?}"));
    for key in ["sealing.key", "sealing.old_keys", "auth.admin_token", "database.url"] {
        assert!(error.to_string().contains(key), "{key} is not named: {error}");
    }
}

#[test]
fn what_holds_a_secret_does_not_print_it() {
    let bytes = *b"0123456789abcdef0123456789abcdef";
    let token = TokenText::from_random(&bytes);
    let sealed = SealedKey { key_id: "k".into(), ciphertext: bytes.to_vec() };
    let key = SealingKeyBytes(Zeroizing::new(bytes));
    let keys = SealingKeys::new(vec![key.clone()]).unwrap();
    let printed = format!("{token:?} {:?} {sealed:?} {key:?} {keys:?}", token.hash());
    let secrets = [
        ("bytes", bytes.to_vec()),
        ("token", token.expose().as_bytes().to_vec()),
        ("hash", token.hash().0.to_vec()),
    ];
    assert_hidden(&secrets, "Debug", &printed);
}
