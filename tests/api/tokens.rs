//! Credentials: what is no credential, what was one, and what happens when it cannot be checked.

use std::time::{Duration, Instant};

use onceguard::domain::{Actor, Event, TokenScope};
use rstest::rstest;
use serde_json::json;

use crate::routing::PATHS;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, DEADLINE, TestApp, minutes, wait_for};

fn challenge(answer: &Answer) -> String {
    answer.headers["www-authenticate"].to_str().unwrap().to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_credential(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let anybody = app.anybody();
    for (path, methods) in PATHS {
        for method in methods.split(", ") {
            if method == "HEAD" {
                assert_eq!(anybody.request(method, path).send().await.status, 401);
                continue;
            }
            let request = anybody.request(method, path).json(&json!({}));
            let answer = app.refuses(request, 401, "unauthenticated").await;
            assert_eq!(challenge(&answer), r#"Bearer realm="onceguard""#, "{method} {path}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let anybody = app.anybody();
    let token = app.token_text();
    let unknown = format!("og_{}", "A".repeat(43));
    let attempt =
        |header: &str| anybody.request("GET", "/v1/sessions").header("authorization", header);
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        token.to_owned(),
        format!("Basic {token}"),
        format!("Bearer{token}"),
        format!("Token {token}"),
        format!("Signature {token}"),
    ] {
        let answer = attempt(&header).send().await.refused(401, "unauthenticated");
        assert!(
            challenge(&answer).contains(r#"error="invalid_request""#),
            "{header:?}: {answer:?}"
        );
    }
    for text in [
        "og_",
        "og_short",
        "x",
        unknown.as_str(),
        &token[..token.len() - 1],
        &format!("{token}A"),
        &token[3..],
        &token.replace("og_", "OG_"),
        &token.to_uppercase(),
        &format!("{token} {token}"),
        &format!("{token},{token}"),
        "\u{1F511}",
    ] {
        let answer =
            attempt(&format!("Bearer {text}")).send().await.refused(401, "unauthenticated");
        assert!(challenge(&answer).contains("error=\"invalid_"), "{text}: {answer:?}");
        assert!(
            !answer.text().contains(text) || text == "x",
            "the token is not repeated: {answer:?}"
        );
    }
    let twice = attempt(&format!("Bearer {token}")).header("authorization", "Bearer x");
    twice.send().await.refused(401, "unauthenticated");
    // Not in the path, the query or the body.
    anybody
        .get(&format!("/v1/sessions?access_token={token}"))
        .await
        .refused(401, "unauthenticated");

    for header in [format!("bearer {token}"), format!("BEARER   {token}")] {
        attempt(&header).send().await.is(200);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (short, long) = (
        app.token(&[TokenScope::Sessions], Some(60)).await.1,
        app.token(&[TokenScope::Sessions], Some(600)).await.1,
    );
    app.with_token(Some(&long)).get("/v1/sessions").await.is(200);
    app.store().pass(minutes(2)).await;
    let request = app.with_token(Some(&short)).request("GET", "/v1/sessions");
    app.refuses(request, 401, "unauthenticated").await;
    app.with_token(Some(&long)).get("/v1/sessions").await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_soon_everywhere(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (token, text) = app.token(&[TokenScope::Sessions], None).await;
    let (never_used, unused_text) = app.token(&[TokenScope::Sessions], None).await;
    let caller = app.with_token(Some(&text));
    caller.get("/v1/sessions").await.is(200);
    // As another process revokes it.
    for id in [token.id, never_used.id] {
        app.tokens().revoke(id, Actor::Operator).await.unwrap().unwrap();
    }
    app.with_token(Some(&unused_text)).get("/v1/sessions").await.refused(401, "unauthenticated");
    let started = Instant::now();
    while caller.get("/v1/sessions").await.status == 200 {
        assert!(started.elapsed() < DEADLINE, "a revoked token works for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    caller.get("/v1/sessions").await.refused(401, "unauthenticated");
    app.get("/v1/sessions").await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_shows_when_it_was_last_used(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (token, text) = app.token(&[TokenScope::Sessions], None).await;
    assert_eq!(token.last_used_at, None);
    let before = app.store().now().await.unwrap();
    app.with_token(Some(&text)).get("/v1/sessions").await.is(200);
    let started = Instant::now();
    let used_at = loop {
        let tokens = app.tokens().list().await.unwrap();
        let found = tokens.iter().find(|one| one.id == token.id).unwrap();
        if let Some(used_at) = found.last_used_at {
            break used_at;
        }
        assert!(started.elapsed() < DEADLINE, "the use was never written down");
        tokio::task::yield_now().await;
    };
    assert!(used_at >= before);
}

/// "Not checked" is never "no": a caller with a good token must not throw it away.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_checked_is_503(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (_, text) = app.token(&[TokenScope::Sessions], None).await;
    let raw = app.store().raw();
    raw.execute("ALTER TABLE api_tokens RENAME TO gone").await;
    let unknown = format!("og_{}", "A".repeat(43));
    for token in [&text, &unknown] {
        let caller = app.with_token(Some(token));
        caller.get("/v1/sessions").await.refused(503, "storage_unavailable");
        caller.request("POST", "/v1/sessions").text("x").send().await.is(503);
    }
    // What needs no look-up is still told at once.
    app.anybody().get("/v1/sessions").await.refused(401, "unauthenticated");
    app.with_token(Some("og_x")).get("/v1/sessions").await.refused(401, "unauthenticated");
    raw.execute("ALTER TABLE gone RENAME TO api_tokens").await;
    app.with_token(Some(&text)).get("/v1/sessions").await.is(200);
    app.with_token(Some(&unknown)).get("/v1/sessions").await.refused(401, "unauthenticated");
}

/// Only a hash is in the database, and it is SHA-256 of the whole text.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_s_hash_is_stored(#[values(Sqlite, Postgres)] on: Database) {
    use sha2::{Digest as _, Sha256};
    let app = TestApp::start(on).await;
    let (_, text) = app.token(&[TokenScope::Sessions], None).await;
    let hash = crate::support::hex(&Sha256::digest(text.as_bytes()));
    let literal = match on {
        Postgres => format!(r"'\x{hash}'::bytea"),
        _ => format!("x'{hash}'"),
    };
    let raw = app.store().raw();
    assert_eq!(raw.number(&format!("count(*) FROM api_tokens WHERE hash = {literal}")).await, 1);
    assert!(!app.data().await.contains(&text[3..]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_refused_again_and_again_leave_one_event(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let text = format!("og_{}", "A".repeat(43));
    let stranger = app.anybody().with_token(Some(&text));
    // Evidence is written in its order: what came before the replay is there with it.
    let evidence = async |nonce: &str| {
        let path = format!("/v1/sessions/{}/nonces", app.session().await);
        let body = json!({ "nonce": nonce });
        app.post(&path, &body).await.is(201);
        app.post(&path, &body).await.refused(409, "nonce_replayed");
        wait_for("the evidence", async || {
            let events = app.store().newest_events(500).await.unwrap();
            let replays = events.iter().filter(|event| event.kind == "onceguard.claim.replayed");
            let replayed = replays.count() == nonce.len();
            replayed.then(|| {
                let refused = |event: &Event| event.kind == "onceguard.token.refused";
                events.into_iter().filter(refused).collect::<Vec<_>>()
            })
        })
        .await
    };
    for _ in 0..19 {
        stranger.get("/v1/sessions").await.refused(401, "unauthenticated");
    }
    assert_eq!(evidence("n").await, []);
    // Wherever the minute ends, twenty of these are in one.
    for _ in 0..20 {
        stranger.get("/v1/sessions").await.refused(401, "unauthenticated");
    }
    let refused = evidence("nn").await;
    let [event] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((event.subject.as_deref(), &*event.outcome), (Some("127.0.0.1"), "unauthenticated"));
    assert_eq!(event.data.to_value(), json!({ "refused": 20, "seconds": 60 }));
    assert!(!format!("{event:?}").contains(&text));
}
