//! What becomes of a DID when its host answers this or that, and who learns of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onceguard::clock::Clock;
use onceguard::domain::Did;
use rstest::rstest;
use serde_json::{Value, json};

use super::{Keyholder, VERIFY, forged, now, order, reads_here, verify};
use crate::site::{Script, Site, answer, json as json_answer, raw};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Answer, Authority, Caller, Home, Process, TestApp, did, http_client, wait_for,
};

/// What the site says of a DID.
type Says = Box<dyn Fn(&Did) -> Script + Send + Sync>;

/// A host whose answers change, all at once.
struct Fickle {
    site: Site,
    number: Arc<AtomicUsize>,
}

impl Fickle {
    /// It begins with the first.
    async fn start(authority: &Authority, answers: Vec<Says>) -> Self {
        let number = Arc::new(AtomicUsize::new(0));
        let now = Arc::clone(&number);
        let site =
            Site::start(authority, move |did| answers[now.load(Ordering::SeqCst)](did)).await;
        Self { site, number }
    }

    fn answers_with(&self, number: usize) {
        self.number.store(number, Ordering::SeqCst);
    }
}

/// A firewall that answers 403, a log-in page, a maintenance page, a document of another's: none
/// of them says that the key is gone. It serves for its time, and then as long as may be.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_of_a_known_did_leaves_its_key_in_use(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let (authority, keyholder) = (Authority::new(), Keyholder::new());
    let good = keyholder.documents();
    let redirect = "HTTP/1.1 302 Found\nLocation: /login\nContent-Length: 0";
    let encoded = "HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 2";
    let mut answers: Vec<Says> = vec![
        Box::new(move |did| json_answer(&good(did))),
        Box::new(|_| answer(403, "")),
        Box::new(|_| answer(400, "")),
        Box::new(|_| answer(401, "")),
        Box::new(|_| answer(500, "")),
        Box::new(move |_| raw(redirect, "")),
        Box::new(move |_| raw(encoded, "{}")),
        Box::new(|_| answer(200, "<!doctype html><title>We are back soon</title>")),
        Box::new(|_| answer(200, " ".repeat(100_000))),
        Box::new(|_| json_answer(&json!({"id": "did:web:another.example"}))),
        Box::new(|_| json_answer(&json!([]))),
    ];
    let silent = answers.len();
    answers.push(Box::new(|_| answer(404, "")));
    let host = Fickle::start(&authority, answers).await;
    let mut app = TestApp::start_with(on, |config| {
        reads_here(config, &authority);
        config.dids.refresh_interval = Duration::from_millis(1);
        config.dids.max_stale = Duration::from_mins(30);
    })
    .await;
    let agent = keyholder.named(&host.site.did(":agents:a"));
    let path = format!("/v1/dids/{}", agent.did);
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    for number in 1..silent {
        host.answers_with(number);
        let refused = wait_for("an answer that is not limited", async || {
            let answer = app.request("POST", &format!("{path}/refresh")).send().await;
            (answer.status != 429).then_some(answer)
        })
        .await;
        refused.refused(503, "upstream_unavailable");
        verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    }
    // Past its time as well.
    app.store().pass(Duration::from_mins(6)).await;
    for number in [1, 5, 7, 9] {
        app.restart().await;
        host.answers_with(number);
        verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    }
    // What says that it is gone is believed at once.
    app.restart().await;
    host.answers_with(silent);
    verify(&app, &order().signed(&agent, now(&app))).await.refused(403, "signature_key_unknown");
}

/// A process that reads did:web from this machine, and a caller with its token.
async fn serve(authority: &Authority) -> (Home, Process, Caller) {
    let home = Home::on(Sqlite)
        .await
        .set("resolvers.web.allow_private_addresses", true)
        .set("resolvers.web.ca_file", authority.file().display())
        .set("dids.refresh_interval_seconds", 3600);
    let process = home.start().await;
    let base = format!("http://{}", process.api);
    let caller = Caller::new(http_client().build().unwrap(), base, Some(&home.token()));
    (home, process, caller)
}

/// Of several refreshes within the interval one asks, and the log has one line, whatever the
/// answers are.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_fails_is_asked_once_in_an_interval() {
    let authority = Authority::new();
    let site = Site::start(&authority, |_| answer(503, "")).await;
    let (_home, process, caller) = serve(&authority).await;
    let did = site.did(":agents:a");
    for _ in 0..3 {
        let refresh = caller.request("POST", &format!("/v1/dids/{did}/refresh"));
        let answer = refresh.send().await.refused(503, "upstream_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(site.requests().len(), 1);
    // Another DID has its own turn.
    let other = site.did(":agents:b");
    caller.request("POST", &format!("/v1/dids/{other}/refresh")).send().await.is(503);
    assert_eq!(site.requests().len(), 2);
    let stopped = process.stop().await;
    let log = stopped.stdout + &stopped.stderr;
    let about: Vec<_> = log.lines().filter(|line| line.contains(did.as_str())).collect();
    let warnings = about.iter().filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, 1, "{about:#?}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// Of what strangers have it read in vain the log has a line a second, however much it is.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_log_with_what_cannot_be_read() {
    let (authority, keyholder) = (Authority::new(), Keyholder::new());
    let site = Site::start(&authority, |_| answer(503, "")).await;
    let (_home, process, caller) = serve(&authority).await;
    let (began, now) = (Instant::now(), Clock::system().now());
    for number in 0..50 {
        let agent = keyholder.named(&site.did(&format!(":agents:{number}")));
        let verdict = caller.post(VERIFY, &forged(&agent, now).to_verify()).await;
        verdict.refused(503, "signature_key_unavailable");
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let log = process.stop().await.stderr;
    let lines = log.lines().filter(|line| line.contains("could not be read")).count();
    assert!((1..=seconds).contains(&lines), "{lines} lines in {seconds} s");
}

/// Which internal names there are is nobody's business: a name that must not be dialled and a name
/// that does not exist have one answer.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn names_are_not_told_apart(#[values(Sqlite, Postgres)] on: Database) {
    let authority = Authority::new();
    let site = Site::start(&authority, |_| answer(404, "")).await;
    let app = TestApp::start_with(on, |config| {
        config.resolvers.web.enabled = true;
        config.resolvers.web.ca_file = Some(authority.file());
        config.resolvers.web.timeout = Duration::from_secs(1);
    })
    .await;
    let keyholder = Keyholder::new();
    let (port, elsewhere) = (site.port(), "does-not-exist.invalid");
    let names: Vec<Did> = [
        "localhost".to_owned(),
        format!("localhost%3A{port}"),
        format!("localhost%3A{port}:agents:a"),
        elsewhere.to_owned(),
        format!("{elsewhere}%3A{port}"),
    ]
    .iter()
    .map(|name| did(&format!("did:web:{name}")))
    .collect();
    let told = |did: &Did, answer: &Answer| -> (u16, Value) {
        let mut body: Value =
            serde_json::from_str(&answer.text().replace(did.as_str(), "DID")).unwrap();
        body.as_object_mut().unwrap().remove("request_id");
        (answer.status, body)
    };
    let mut answers = Vec::new();
    for did in &names {
        let agent = keyholder.named(did);
        let verdict = verify(&app, &forged(&agent, now(&app))).await;
        let verdict = verdict.refused(503, "signature_key_unavailable");
        let own = agent.request(&app, "GET", "/v1/sessions").send().await;
        let own = own.refused(503, "signature_key_unavailable");
        let read = app.get(&format!("/v1/dids/{did}")).await.refused(503, "upstream_unavailable");
        let refreshed = app.request("POST", &format!("/v1/dids/{did}/refresh")).send().await;
        let resolved = app.get(&format!("/1.0/identifiers/{did}")).await;
        let all = [verdict, own, read, refreshed, resolved];
        assert!(all.iter().all(|answer| answer.header("retry-after").is_some()));
        answers.push(all.map(|answer| told(did, &answer)));
    }
    for other in &answers {
        assert_eq!(other, &answers[0]);
    }
    assert_eq!(site.connections(), 0);
}
