//! For which URL a signed request is: its host must be the service's, and all of it what was signed.

use std::fmt::Write as _;

use onceguard::config::{Host, PublicUrl};
use onceguard::domain::{KeyType, Timestamp};

use crate::support::Database::Sqlite;
use crate::support::{Agent, Message, Request, TestApp};

fn now(app: &TestApp) -> Timestamp {
    app.store().clock().now()
}

/// A request that is signed for this authority, sent to the service as one for another.
fn list(app: &TestApp, agent: &Agent, signed_for: &str, host: &str) -> Request {
    let path = format!("/v1/sessions?client_did={}", agent.did);
    let message = Message::new("GET", &format!("{signed_for}{path}")).signed(agent, now(app));
    message.to_path(&app.anybody(), &path).header("host", host)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_for_the_host_that_it_names() {
    let mut app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    let port = app.api_address().port();
    let own = format!("127.0.0.1:{port}");
    let url = |host: &str| format!("http://{host}");
    for host in [&own, "127.0.0.1", "localhost", "LOCALHOST:81", "localhost:8080"] {
        list(&app, &agent, &url(host), host).send().await.is(200);
    }
    // Somebody changed the Host on the way, or the scheme.
    let changed = list(&app, &agent, &url("localhost"), &own);
    app.refuses(changed, 401, "signature_invalid").await;
    let changed = list(&app, &agent, &format!("https://{own}"), &own);
    app.refuses(changed, 401, "signature_invalid").await;
    // It was meant for somebody else.
    for host in ["other.example", "127.0.0.2", "localhost.", "[::1]", "localhost.example"] {
        let other = list(&app, &agent, &url(host), host);
        app.refuses(other, 421, "host_not_allowed").await;
    }
    // Without a signature the host does not matter.
    app.request("GET", "/v1/stats").header("host", "other.example").send().await.is(200);

    app.restart_with(|config| {
        config.server.allowed_hosts =
            ["guard.example", "::1"].map(Host::parse).into_iter().collect();
    })
    .await;
    for host in ["guard.example", "Guard.Example:8080", "[::1]:80"] {
        list(&app, &agent, &url(host), host).send().await.is(200);
    }
    for host in ["localhost", "127.0.0.1", "other.example"] {
        let other = list(&app, &agent, &url(host), host);
        app.refuses(other, 421, "host_not_allowed").await;
    }

    app.restart_with(|config| {
        let authority = "guard.example".to_owned();
        config.server.public_url = Some(PublicUrl { scheme: "https", authority });
    })
    .await;
    for host in ["guard.example", "behind.internal:8080"] {
        list(&app, &agent, "https://guard.example", host).send().await.is(200);
        let other = list(&app, &agent, &url(host), host);
        app.refuses(other, 401, "signature_invalid").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_all_addresses_the_service_must_be_told_its_name() {
    let all = |config: &mut onceguard::config::Config| {
        config.server.listen = ([0, 0, 0, 0], 0).into();
    };
    let mut app = TestApp::start_with(Sqlite, all).await;
    let agent = Agent::new(KeyType::Ed25519);
    for host in ["localhost", "127.0.0.1", "0.0.0.0"] {
        let request = list(&app, &agent, &format!("http://{host}"), host);
        let refused = app.refuses(request, 421, "host_not_allowed").await;
        let detail = refused.text_of("detail");
        assert!(detail.contains("server.allowed_hosts"), "{detail}");
        assert!(detail.contains("server.public_url"), "{detail}");
    }
    app.get("/v1/stats").await.is(200);
    app.restart_with(|config| {
        config.server.allowed_hosts = Host::parse("localhost").map(|host| vec![host]);
    })
    .await;
    list(&app, &agent, "http://localhost", "localhost").send().await.is(200);
}

/// Bytes that a client library would not send so: what is judged is what was received.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_judged_as_it_was_received() {
    let app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    let did = agent.did.to_string();
    for (path, status) in [
        (format!("/v1/sessions?client_did={did}&state=all"), 200),
        (format!("/v1/sessions?client_did={}", did.replace(':', "%3a")), 200),
        (format!("/v1/sessions?client_did={did}&limit=%31"), 200),
        (format!("/v1/sessions?client_did={did}?"), 422),
        ("/v1/sessions?".to_owned(), 403),
    ] {
        let url = format!("{}{path}", app.base());
        let message = Message::new("GET", &url).signed(&agent, now(&app));
        let (answered, _, body) = send_raw(&app, &message, &path).await;
        assert_eq!(answered, status, "{path}: {body}");
        // Equal in meaning, and not what was signed.
        let message = Message::new("GET", &url).signed(&agent, now(&app));
        let other = path.replacen("v1", "%76%31", 1);
        let (answered, _, body) = send_raw(&app, &message, &other).await;
        assert!(answered == 401 || answered == 404, "{path}: {body}");
    }
}

async fn send_raw(app: &TestApp, message: &Message, path: &str) -> (u16, String, String) {
    let host = app.base().trim_start_matches("http://");
    let mut text = format!("{} {path} HTTP/1.1\r\nHost: {host}\r\n", message.method);
    for (name, value) in &message.headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text.push_str("\r\n");
    crate::support::send_bytes(app.api_address(), text.into_bytes()).await
}
