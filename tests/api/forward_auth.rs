//! `/v1/forward-auth`: verdicts for proxies, which understand four statuses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::domain::{KeyType, Timestamp, TokenScope};
use onceguard::signatures::content_digest;
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, Caller, Message, Request, TestApp};
use crate::verify::session_of;

const PATH: &str = "/v1/forward-auth";
const FORWARDED: [&str; 4] =
    ["x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"];

fn now(app: &TestApp) -> Timestamp {
    app.store().clock().now()
}

pub(crate) fn get() -> Message {
    Message::new("GET", "https://service.example/orders?id=1")
}

fn post() -> Message {
    Message::new("POST", "https://service.example/orders").json(&json!({"amount": 1}))
}

/// What a proxy asks about this message; the body stays where it is.
pub(crate) fn ask(caller: &Caller, message: &Message) -> Request {
    let (scheme, rest) = message.url.split_once("://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let values = [message.method.as_str(), scheme, host, path];
    let request = FORWARDED
        .into_iter()
        .zip(values)
        .fold(caller.request("GET", PATH), |request, (name, value)| request.header(name, value));
    with_headers(request, message)
}

fn with_headers(request: Request, message: &Message) -> Request {
    message.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// The refusal, with what a proxy can read of it.
#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) -> Answer {
    let answer = answer.refused(status, code);
    assert_eq!(answer.header("x-onceguard-code"), Some(code), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    assert_eq!(answer.header("x-onceguard-did"), None, "{answer:?}");
    answer
}

fn challenges(answer: &Answer) -> Vec<&str> {
    let values = answer.headers.get_all("www-authenticate").into_iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_learns_who_asks(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let proxy = app.caller(&[TokenScope::Verify]).await;
    let agent = Agent::new(KeyType::P256);
    let message = get().signed(&agent, now(&app));
    let answer = ask(&proxy, &message).send().await.is(200);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-onceguard-did"), Some(agent.did.as_str()));
    assert_eq!(answer.header("x-onceguard-keyid"), Some(agent.did.as_str()));
    for absent in ["session", "content-digest", "code"] {
        assert_eq!(answer.header(&format!("x-onceguard-{absent}")), None, "{absent}");
    }
    let replay = app.refuses(ask(&proxy, &message), 401, "signature_replayed").await;
    refused(replay, 401, "signature_replayed");

    let session = session_of(&app, &agent.did).await;
    let message = post().with("x-session-id", &session).signed(&agent, now(&app));
    let answer = ask(&proxy, &message).send().await.is(200);
    assert_eq!(answer.header("x-onceguard-session"), Some(session.as_str()));
    let digest = message.header("content-digest");
    assert_eq!(answer.header("x-onceguard-content-digest"), Some(digest.as_str()));
    // With the other family, any method, and below the path.
    for (method, path) in
        [("GET", PATH), ("POST", PATH), ("DELETE", "/v1/forward-auth/orders?id=1")]
    {
        let message = get().signed(&agent, now(&app));
        let request = proxy.request(method, path).header("x-original-method", "GET");
        let request = request.header("x-original-url", &message.url);
        with_headers(request, &message).send().await.is(200);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_has_a_token(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let message = || get().signed(&agent, now(&app));
    let anybody = app.anybody();
    let (_, token) = app.token(&[TokenScope::Verify], None).await;
    // `Authorization` may be the judged request's own.
    let own = |token: &str| {
        let request = ask(&anybody, &message()).header("x-onceguard-token", token);
        request.header("authorization", "Basic dXNlcjpwYXNz")
    };
    own(&token).send().await.is(200);
    let (_, other) = app.token(&[TokenScope::Sessions], None).await;
    let wrong = [
        (own(""), 401, "unauthenticated"),
        (own("og_x"), 401, "unauthenticated"),
        (own("Bearer og_x"), 401, "unauthenticated"),
        (own(&token).header("x-onceguard-token", &token), 401, "unauthenticated"),
        (ask(&anybody, &message()), 401, "unauthenticated"),
        (ask(&anybody, &message()).header("authorization", "Basic eA=="), 401, "unauthenticated"),
        (own(&other), 403, "forbidden"),
    ];
    let count = wrong.len();
    for (request, status, code) in wrong {
        let answer = refused(app.refuses(request, status, code).await, status, code);
        // The proxy hands it on to a client, for whom the proxy's token is nothing.
        assert!(!answer.text().to_lowercase().contains("token"), "{answer:?}");
        assert!(answer.text_of("detail").contains("only its operator can mend"), "{answer:?}");
        let challenge = format!("Signature error=\"{code}\"");
        assert_eq!(challenges(&answer), if status == 401 { vec![challenge] } else { vec![] });
    }
    let told = app.metric("onceguard_forward_auth_refused_total", &[]).await;
    assert_eq!(told, f64::from(u32::try_from(count).unwrap()));

    app.restart_with(|config| config.forward_auth.public = true).await;
    let message = || get().signed(&agent, now(&app));
    ask(&app.anybody(), &message()).send().await.is(200);
    ask(&app.anybody(), &message()).header("authorization", "Basic eA==").send().await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_one_that_proxies_understand(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.quota_per_signer = 2).await;
    let agent = Agent::new(KeyType::Ed25519);
    let signed = |message: Message| message.signed(&agent, now(&app));
    let mut elsewhere = signed(get());
    elsewhere.url = elsewhere.url.replace("id=1", "id=2");
    let without_digest = {
        let mut message = post();
        message.body.clear();
        signed(message)
    };
    let theirs = app.session().await;
    let ended = session_of(&app, &agent.did).await;
    app.delete(&format!("/v1/sessions/{ended}")).await.is(204);
    let named = |id: &str| signed(get().with("x-session-id", id));
    let unknown = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";
    for (message, status, code) in [
        (get(), 401, "signature_required"),
        (signed(get()).without("signature"), 401, "signature_malformed"),
        (elsewhere, 401, "signature_invalid"),
        (without_digest, 401, "signature_components_incomplete"),
        (signed(get()).with("x-session-id", &theirs), 401, "signature_components_incomplete"),
        (named(unknown), 401, "session_not_found"),
        (named("no id at all"), 401, "session_not_found"),
        (named(&ended), 401, "session_ended"),
        (named(&theirs), 403, "signature_not_a_party"),
    ] {
        let answer = refused(app.refuses(ask(&app, &message), status, code).await, status, code);
        // For whoever sent the request: the token that onceguard takes is the proxy's affair.
        let challenge = format!("Signature error=\"{code}\"");
        let wanted = if status == 401 { vec![challenge.as_str()] } else { vec![] };
        assert_eq!(challenges(&answer), wanted);
    }
    for _ in 0..2 {
        ask(&app, &signed(get())).send().await.is(200);
    }
    refused(ask(&app, &signed(get())).send().await, 403, "claim_quota_reached");
    app.post(&format!("/v1/dids/{}/revoke", agent.did), &json!({})).await.is(200);
    refused(ask(&app, &signed(get())).send().await, 403, "signature_key_revoked");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_says_must_be_one_thing(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let message = get().signed(&agent, now(&app));
    let ambiguous = "forward_headers_ambiguous";
    for (name, value) in [
        ("x-original-url", message.url.as_str()),
        ("x-original-method", "GET"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "service.example"),
        ("x-forwarded-uri", "/orders?id=1"),
    ] {
        let request = ask(&app, &message).header(name, value);
        refused(app.refuses(request, 403, ambiguous).await, 403, ambiguous);
    }
    let original = || with_headers(app.request("GET", PATH), &message);
    let original = || original().header("x-original-method", "GET");
    let twice = original().header("x-original-url", &message.url);
    app.refuses(twice.header("x-original-url", &message.url), 403, ambiguous).await;

    let invalid = "forward_headers_invalid";
    app.refuses(with_headers(app.request("GET", PATH), &message), 403, invalid).await;
    refused(app.refuses(original(), 403, invalid).await, 403, invalid);
    for url in
        ["", "/orders?id=1", "service.example/orders", "https://a.example, https://b.example"]
    {
        app.refuses(original().header("x-original-url", url), 403, invalid).await;
    }
    let values = ["GET", "https", "service.example", "/orders?id=1"];
    for (at, wrong) in [(0, "G T"), (1, "ftp"), (2, "a b"), (2, ""), (3, "orders"), (3, "/a b")] {
        let mut values = values;
        values[at] = wrong;
        let request = FORWARDED.into_iter().zip(values);
        let request = request
            .fold(with_headers(app.request("GET", PATH), &message), |r, (n, v)| r.header(n, v));
        app.refuses(request, 403, invalid).await;
        let names = FORWARDED.into_iter().zip(values).enumerate().filter(|(n, _)| *n != at);
        let request = names
            .fold(with_headers(app.request("GET", PATH), &message), |r, (_, (n, v))| {
                r.header(n, v)
            });
        app.refuses(request, 403, invalid).await;
    }
    // The nonce is as good as it was.
    ask(&app, &message).send().await.is(200);
}

/// A signature is for one URL: what reaches the upstream is what was judged.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_for_one_url_behind_a_proxy() {
    let app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    let message = get().signed(&agent, now(&app));
    for (part, from, to) in [
        ("method", "GET", "DELETE"),
        ("url", "https", "http"),
        ("url", "service.example", "other.example"),
        ("url", "/orders", "/%6Frders"),
        ("url", "/orders", "//orders"),
        ("url", "/orders", "/./orders"),
        ("url", "?id=1", "?id=%31"),
        ("url", "?id=1", "?id=1&"),
    ] {
        let mut other = message.clone();
        if part == "url" {
            other.url = other.url.replace(from, to);
        } else {
            other.method = to.to_owned();
        }
        let code =
            if to == "DELETE" { "signature_components_incomplete" } else { "signature_invalid" };
        refused(ask(&app, &other).send().await, 401, code);
    }
    ask(&app, &message).send().await.is(200);
}

/// The digest that is handed on is the signed one, in one form, whatever the signer's form was.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_digest_handed_on_is_the_one_that_was_signed(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let signed = content_digest(&post().body);
    let evil = content_digest(b"{\"amount\":1000}");
    let message = |digests: &[&str], identifier: &str, value: &str| {
        let message =
            digests.iter().fold(post(), |message, line| message.with("content-digest", line));
        let url = message.url.clone();
        let covered = [
            ("\"@method\"", "POST"),
            ("\"@target-uri\"", &url),
            (identifier, value),
            ("\"content-type\"", "application/json"),
        ];
        message.signed_over(&agent, now(&app), &covered)
    };
    let (plain, strict, binary) =
        ("\"content-digest\"", "\"content-digest\";sf", "\"content-digest\";bs");
    let as_bytes = |line: &str| format!(":{}:", STANDARD.encode(line));
    let both = format!("md5=:AA==:, {signed};q=1");
    let spaced = format!("{signed} ,  md5=:AA==:");
    let written = format!("{signed}, md5=:AA==:");
    for message in [
        message(&[&signed], plain, &signed),
        message(&[&signed], strict, &signed),
        message(&[&both], plain, &both),
        message(&[&spaced], strict, &written),
        message(&["md5=:AA==:", &signed], plain, &format!("md5=:AA==:, {signed}")),
        message(&[&signed], binary, &as_bytes(&signed)),
    ] {
        let answer = ask(&app, &message).send().await.is(200);
        assert_eq!(answer.header("x-onceguard-content-digest"), Some(signed.as_str()));
    }
    let two = format!("{evil}, {signed}");
    for (message, code) in [
        // A parser keeps the last member of a name, and forgets the others.
        (message(&[&two], strict, &signed), "signature_invalid"),
        (message(&[&evil, &signed], strict, &signed), "signature_invalid"),
        (message(&[&signed, &evil], strict, &signed), "signature_invalid"),
        (
            message(&[&format!("{signed};q=1;q=2")], strict, &format!("{signed};q=2")),
            "signature_invalid",
        ),
        // Signed, but of two meanings, or of none.
        (message(&[&two], plain, &two), "signature_digest_mismatch"),
        (message(&[&evil, &signed], plain, &two), "signature_digest_mismatch"),
        (
            message(
                &[&evil, &signed],
                binary,
                &format!("{}, {}", as_bytes(&evil), as_bytes(&signed)),
            ),
            "signature_digest_mismatch",
        ),
        (message(&["md5=:AA==:"], plain, "md5=:AA==:"), "signature_digest_mismatch"),
        (message(&["sha-256=:AA==:"], plain, "sha-256=:AA==:"), "signature_digest_mismatch"),
        (message(&["sha-256"], plain, "sha-256"), "signature_digest_mismatch"),
        (
            message(&[&signed], "\"content-digest\";key=\"sha-256\"", &signed),
            "signature_components_incomplete",
        ),
    ] {
        let answer = refused(app.refuses(ask(&app, &message), 401, code).await, 401, code);
        assert_eq!(answer.header("x-onceguard-content-digest"), None);
    }
}

/// Whatever form it is signed in, a session is named once.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_named_once() {
    let app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    let (own, theirs) = (session_of(&app, &agent.did).await, app.session().await);
    let message = |sent: &[&str], identifier: &str, value: &str| {
        let message = sent.iter().fold(get(), |message, id| message.with("x-session-id", id));
        let url = message.url.clone();
        let covered = [("\"@method\"", "GET"), ("\"@target-uri\"", &url), (identifier, value)];
        message.signed_over(&agent, now(&app), &covered)
    };
    let plain = "\"x-session-id\"";
    let as_bytes = |id: &str| format!(":{}:", STANDARD.encode(id));
    let binary = "\"x-session-id\";bs";
    for message in [message(&[&own], plain, &own), message(&[&own], binary, &as_bytes(&own))] {
        let answer = ask(&app, &message).send().await.is(200);
        assert_eq!(answer.header("x-onceguard-session"), Some(own.as_str()));
    }
    let two = format!("{theirs}, {own}");
    let two_binary = format!("{}, {}", as_bytes(&theirs), as_bytes(&own));
    for (message, code) in [
        (message(&[&theirs, &own], plain, &two), "session_not_found"),
        (message(&[&own, &own], plain, &format!("{own}, {own}")), "session_not_found"),
        (message(&[&two], plain, &two), "session_not_found"),
        (message(&[&theirs, &own], binary, &two_binary), "session_not_found"),
        (message(&[&format!("{own};q=1")], plain, &format!("{own};q=1")), "session_not_found"),
        (message(&["a", "a"], "\"x-session-id\";sf", "a"), "signature_invalid"),
        (
            message(&["a=1, a=2"], "\"x-session-id\";key=\"a\"", "2"),
            "signature_components_incomplete",
        ),
        (message(&[&own], "\"x-session-id\";bs;sf", &own), "signature_components_incomplete"),
    ] {
        refused(app.refuses(ask(&app, &message), 401, code).await, 401, code);
    }
}
