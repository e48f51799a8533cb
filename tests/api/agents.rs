//! Agents call the API by signing their requests: what they may do, and how they are refused.

use std::fmt::Write as _;

use onceguard::config::{Host, PublicUrl};
use onceguard::domain::{KeyType, Timestamp};
use onceguard::signatures::Component;
use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Message, Request, TestApp, a_did};

const NONE: &str = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";

fn now(app: &TestApp) -> Timestamp {
    app.store().clock().now()
}

/// A session between the two, with a key.
async fn session(app: &TestApp, client: &Agent, server: &Agent) -> String {
    let body = json!({
        "client_did": client.did.as_str(),
        "server_did": server.did.as_str(),
        "session_key": "a2V5",
    });
    client.json(app, "POST", "/v1/sessions", &body).send().await.is(201).text_of("id")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_acts_in_its_own_sessions(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(KeyType::Ed25519, KeyType::Secp256k1, KeyType::P256)] key_type: KeyType,
) {
    let app = TestApp::start(on).await;
    let (client, server) = (Agent::new(key_type), Agent::new(KeyType::Ed25519));
    for (party, role) in [(&client, "client_did"), (&server, "server_did")] {
        let id = session(&app, &client, &server).await;
        let path = format!("/v1/sessions/{id}");
        let read = party.request(&app, "GET", &path).send().await.is(200);
        assert_eq!(read[role], party.did.as_str());
        party.request(&app, "HEAD", &path).send().await.is(200);
        let key = party.request(&app, "GET", &format!("{path}/key")).send().await.is(200);
        assert_eq!(key["session_key"], "a2V5");
        let list = format!("/v1/sessions?{role}={}&limit=10", party.did);
        let list = party.request(&app, "GET", &list).send().await.is(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_eq!(list["items"][0]["id"], id);
        party.request(&app, "POST", &format!("{path}/touch")).send().await.is(204);

        let nonces = format!("{path}/nonces");
        let nonce = json!({"nonce": "n"});
        party.json(&app, "POST", &nonces, &nonce).send().await.is(201);
        party.json(&app, "POST", &nonces, &nonce).send().await.refused(409, "nonce_replayed");
        let claims = json!({"claims": [
            {"session_id": id, "nonce": "m"}, {"session_id": id, "nonce": "n"},
            {"session_id": NONE, "nonce": "n"},
        ]});
        let claimed = party.json(&app, "POST", "/v1/claims", &claims).send().await.is(200);
        let outcomes = claimed["results"].as_array().unwrap().iter();
        let outcomes: Vec<_> = outcomes.map(|one| one["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["accepted", "replayed", "session_not_found"]);

        party.request(&app, "DELETE", &path).send().await.is(204);
        party.request(&app, "GET", &path).send().await.refused(410, "session_ended");
        session(&app, &client, &server).await;
        let parties = json!({role: party.did.as_str()});
        let ended = party.json(&app, "POST", "/v1/sessions/end", &parties).send().await.is(200);
        assert_eq!(ended["ended"], 1);
    }
    assert_eq!(app.audited().await, Vec::<String>::new(), "parties end what is theirs");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_do_nothing_else(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let (one, other) = (Agent::new(KeyType::Ed25519), a_did());
    let own = session(&app, &agent, &one).await;
    let theirs = app.open_with(json!({"session_key": "a2V5"})).await.text_of("id");
    let (own, path) = (format!("/v1/sessions/{own}"), format!("/v1/sessions/{theirs}"));
    let me = agent.did.as_str();
    let stranger = "signature_not_a_party";
    let signer = json!({"signer": me, "nonce": "n", "expires_at": "2026-01-01T00:00:00Z"});
    let verify = json!({"method": "GET", "url": "https://a.example", "headers": []});
    for (method, path, body, code) in [
        ("GET", path.clone(), None, stranger),
        ("GET", format!("{path}/key"), None, stranger),
        ("POST", format!("{path}/touch"), None, stranger),
        ("DELETE", path.clone(), None, stranger),
        ("POST", format!("{path}/nonces"), Some(json!({"nonce": "n"})), stranger),
        (
            "POST",
            "/v1/claims".into(),
            Some(json!({"claims": [{"session_id": theirs, "nonce": "n"}]})),
            stranger,
        ),
        ("POST", "/v1/claims".into(), Some(json!({"claims": [signer]})), "forbidden"),
        (
            "POST",
            "/v1/sessions/end".into(),
            Some(json!({"client_did": one.did.as_str()})),
            stranger,
        ),
        (
            "POST",
            "/v1/sessions".into(),
            Some(json!({"client_did": other.as_str(), "server_did": me})),
            "forbidden",
        ),
        ("GET", "/v1/sessions".into(), None, "forbidden"),
        ("GET", format!("/v1/sessions?client_did={other}"), None, "forbidden"),
        ("PATCH", own.clone(), Some(json!({"metadata": {}})), "forbidden"),
        ("GET", format!("{own}/nonces/n"), None, "forbidden"),
        ("GET", "/v1/dids".into(), None, "forbidden"),
        ("GET", format!("/v1/dids/{me}"), None, "forbidden"),
        ("PUT", format!("/v1/dids/{me}"), Some(ed25519(1)), "forbidden"),
        ("DELETE", format!("/v1/dids/{me}"), None, "forbidden"),
        ("POST", format!("/v1/dids/{me}/refresh"), None, "forbidden"),
        ("POST", format!("/v1/dids/{other}/revoke"), None, "forbidden"),
        ("POST", "/v1/verify".into(), Some(verify), "forbidden"),
        ("GET", "/v1/stats".into(), None, "forbidden"),
    ] {
        let request = match &body {
            Some(body) => agent.json(&app, method, &path, body),
            None => agent.request(&app, method, &path),
        };
        let before = state(&app).await;
        // A token does not add to what the signer may do.
        let request = request.header("authorization", &format!("Bearer {}", app.token_text()));
        request.send().await.refused(403, code);
        assert_eq!(before, state(&app).await, "{method} {path}");
    }
    let missing = format!("/v1/sessions/{NONE}");
    agent.request(&app, "GET", &missing).send().await.refused(404, "session_not_found");
    agent.request(&app, "DELETE", &missing).send().await.refused(404, "session_not_found");
}

/// What an agent could change: everything but the nonces that its signatures spend.
async fn state(app: &TestApp) -> Vec<String> {
    let data = app.data().await;
    let mut of_signers = false;
    let mut kept = Vec::new();
    for line in data.lines() {
        if line.ends_with(':') && !line.contains(' ') {
            of_signers = line.contains("signer");
        }
        if !of_signers {
            kept.push(line.to_owned());
        }
    }
    assert!(kept.len() > 6, "{data}");
    kept
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_revokes_itself(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    // The path is signed as it is sent, encoded or not.
    for encoded in [false, true] {
        let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
        let id = session(&app, &agent, &other).await;
        let did = agent.did.to_string();
        let did = if encoded { did.replace(':', "%3A") } else { did };
        let revoke = format!("/v1/dids/{did}/revoke");
        let revoked = agent.request(&app, "POST", &revoke).send().await.is(200);
        assert_eq!(revoked["sessions_ended"], 1);
        let events = app.store().audit_events(2).await.unwrap();
        let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(actions, ["sessions.end", "did.revoke"]);
        assert!(events.iter().all(|event| event.actor == agent.did.as_str()), "{events:?}");
        let path = format!("/v1/sessions/{id}");
        let refused = agent.request(&app, "GET", &path);
        app.refuses(refused, 403, "signature_key_revoked").await;
        let ended = other.request(&app, "GET", &path).send().await.refused(410, "session_ended");
        assert_eq!(ended["end_reason"], "did_revoked");
        let body = json!({"client_did": other.did.as_str(), "server_did": agent.did.as_str()});
        let open = other.json(&app, "POST", "/v1/sessions", &body).send().await;
        open.refused(403, "did_revoked");
    }
}

/// Whatever token comes with it: a broken signature is no reason to look for something else.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_signature_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let path = format!("/v1/sessions/{}", app.session().await);
    let nonces = format!("{}{path}/nonces", app.base());
    let message = Message::new("POST", &nonces).json(&json!({"nonce": "n"}));
    let signed = || message.clone().signed(&agent, now(&app));
    let mut uncovered = agent.clone();
    uncovered.signer.profile.coverage.always = vec![vec![vec![Component::Method]]];
    let mut other_body = signed();
    other_body.body = json!({"nonce": "m"}).to_string().into_bytes();
    let mut other_method = signed();
    other_method.method = "PUT".to_owned();
    other_method.url = format!("{}/v1/dids/did:web:a.example", app.base());
    let used = signed();
    used.to_http(&app.anybody()).send().await.refused(403, "signature_not_a_party");
    let hour = chrono::Duration::hours(1);
    for (message, code) in [
        (message.clone().with("signature", ""), "signature_malformed"),
        (signed().without("signature"), "signature_malformed"),
        (signed().without("signature-input"), "signature_malformed"),
        (signed().edit("signature-input", "\"onceguard\"", "\"other\""), "signature_tag_invalid"),
        (message.clone().signed(&agent, now(&app) - hour), "signature_window_invalid"),
        (message.clone().signed(&agent, now(&app) + hour), "signature_window_invalid"),
        (message.clone().signed(&uncovered, now(&app)), "signature_components_incomplete"),
        (signed().edit("signature-input", "did:key:z6Mk", "did:key:z6Mx"), "signature_key_unknown"),
        (other_method, "signature_invalid"),
        (other_body, "signature_digest_mismatch"),
        (used, "signature_replayed"),
    ] {
        for caller in [app.anybody(), app.admin().clone()] {
            let path = message.url.strip_prefix(app.base()).unwrap();
            app.refuses(message.to_path(&caller, path), 401, code).await;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_judged_in_its_turn(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let url = |path: &str| format!("{}{path}", app.base());
    let send = |message: &Message| message.to_http(&app.anybody());
    let broken = |message: Message| message.signed(&agent, now(&app)).edit("signature", ":", "");
    let mut large = Message::new("POST", &url("/v1/sessions")).json(&json!({}));
    large.body = vec![b' '; 256 * 1024 + 1];
    let large = broken(large);
    app.refuses(send(&large), 413, "payload_too_large").await;
    let nothing = broken(Message::new("GET", &url("/v1/nothing")));
    app.refuses(send(&nothing), 404, "not_found").await;
    let text = || {
        let mut message = Message::new("POST", &url("/v1/sessions"));
        message.body = b"x".to_vec();
        message.with("content-type", "text/plain")
    };
    app.refuses(send(&broken(text())), 401, "signature_malformed").await;
    let signed = text().signed(&agent, now(&app));
    send(&signed).send().await.refused(415, "unsupported_media_type");
    let json = text().without("content-type").with("content-type", "application/json");
    let signed = json.signed(&agent, now(&app));
    send(&signed).send().await.refused(400, "invalid_request");
    let signed = Message::new("POST", &url("/v1/sessions")).json(&json!({"client_did": "x"}));
    let signed = signed.signed(&agent, now(&app));
    send(&signed).send().await.names(&["/client_did", "/server_did"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_accepted_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.quota_per_signer = 3).await;
    let agent = Agent::new(KeyType::Ed25519);
    let list = format!("{}/v1/sessions?client_did={}", app.base(), agent.did);
    let message = Message::new("GET", &list).signed(&agent, now(&app));
    let sent = (0..20).map(|_| message.to_http(&app.anybody()).send());
    let answers = futures_util::future::join_all(sent).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.refused(401, "signature_replayed");
    }
    // Beyond what a signer may hold, nothing is evicted.
    for _ in 0..2 {
        Message::new("GET", &list)
            .signed(&agent, now(&app))
            .to_http(&app.anybody())
            .send()
            .await
            .is(200);
    }
    let more = Message::new("GET", &list).signed(&agent, now(&app)).to_http(&app.anybody());
    app.refuses(more, 429, "claim_quota_reached").await;
    message.to_http(&app.anybody()).send().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_repeats_with_its_idempotency_key(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
    let path = format!("/v1/sessions/{}/nonces", session(&app, &agent, &other).await);
    let claim = |agent: &Agent| {
        agent.json(&app, "POST", &path, &json!({"nonce": "n"})).header("idempotency-key", "k")
    };
    let first = claim(&agent).send().await.is(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = claim(&agent).send().await.is(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again["used_at"], first["used_at"]);
    claim(&other).send().await.refused(409, "nonce_replayed");
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

/// A request may have a signature or a token; with neither it learns of both.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_both_ways_are_told() {
    let app = TestApp::start(Sqlite).await;
    let refused = app.anybody().get("/v1/sessions").await.refused(401, "unauthenticated");
    let challenges: Vec<Value> = refused
        .headers
        .get_all("www-authenticate")
        .iter()
        .map(|value| value.to_str().unwrap().into())
        .collect();
    assert_eq!(challenges, [r#"Bearer realm="onceguard""#, r#"Signature error="unauthenticated""#]);
}
