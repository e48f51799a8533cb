//! The API over TLS, with the certificate and key of the configuration.

use onceguard::app::StartError;
use onceguard::config::{Config, Host, Tls};
use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Caller, Message, TestApp, http_client, start_application};

/// Serves over TLS.
pub(crate) fn over_tls(config: &mut Config, tls: Tls) {
    config.server.tls = Some(tls);
    // With TLS, keys may leave this machine.
    config.server.listen = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    config.server.allowed_hosts = Host::parse("localhost").map(|host| vec![host]);
}

/// A certificate for `localhost`, and its files.
pub(crate) fn certificate() -> (String, Tls, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (made.cert.pem(), Tls { cert, key }, folder)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_served_over_tls_and_tls_alone(#[values(Sqlite, Postgres)] on: Database) {
    let (pem, tls, _folder) = certificate();
    let app = TestApp::start_with(on, |config| over_tls(config, tls)).await;
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let http = http_client().tls_certs_only([root]).build().unwrap();
    let port = app.api_address().port();
    let base = format!("https://localhost:{port}");
    let caller = Caller::new(http, base, Some(app.token_text()));

    let opened = caller.open_with(json!({"session_key": "c2VjcmV0"})).await;
    assert_eq!(opened.header("strict-transport-security"), Some("max-age=63072000"));
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    let key = caller.get(&format!("{path}/key")).await.is(200);
    assert_eq!(key["session_key"], "c2VjcmV0");
    caller.post(&format!("{path}/nonces"), &json!({"nonce": "n"})).await.is(201);
    caller.with_token(None).get(&path).await.refused(401, "unauthenticated");

    // An agent signs for https, since that is how it calls.
    let agent = Agent::new(KeyType::Ed25519);
    let path = format!("/v1/sessions?client_did={}", agent.did);
    for (scheme, status) in [("https", 200), ("http", 401)] {
        let url = format!("{scheme}://localhost:{port}{path}");
        let message = Message::new("GET", &url).signed(&agent, app.store().clock().now());
        message.to_path(&caller.with_token(None), &path).send().await.is(status);
    }

    // Whoever does not trust the certificate, or speaks no TLS, gets nothing.
    let stranger = http_client().tls_certs_only([]).build().unwrap();
    let refused = stranger.get(format!("https://localhost:{port}/v1/sessions")).send().await;
    assert!(refused.unwrap_err().is_connect());
    let plain = http_client().build().unwrap();
    assert!(plain.get(format!("http://localhost:{port}/v1/sessions")).send().await.is_err());
    // The operations listener stays as it is.
    app.ops().get("/livez").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_read_stops_the_start() {
    let mut app = TestApp::start(Sqlite).await;
    app.stop().await;
    let (_, good, folder) = certificate();
    let (_, other, _other_folder) = certificate();
    let (nothing, garbage) = (folder.path().join("nothing"), folder.path().join("garbage"));
    std::fs::write(&garbage, "not PEM").unwrap();
    for (cert, key, named) in [
        (&nothing, &good.key, "server.tls.cert"),
        (&garbage, &good.key, "server.tls.cert"),
        (&good.cert, &nothing, "server.tls.key"),
        (&good.cert, &garbage, "server.tls.key"),
        (&good.cert, &other.key, "server.tls.cert"),
    ] {
        let mut config = app.config().clone();
        config.server.tls = Some(Tls { cert: cert.clone(), key: key.clone() });
        let started = start_application(config, app.store().clock()).await;
        match started.err() {
            Some(StartError::Setting { key, .. }) => assert_eq!(key, named),
            other => panic!("{named}: {other:?}"),
        }
    }
}
