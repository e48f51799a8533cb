//! Verdicts under fire. A message is accepted once. A forged message costs its supposed signer
//! nothing. After a revocation has returned, no message of the signer is accepted, even if
//! instances have cached its key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use onceguard::clock::Clock;
use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::instances::Pair;
use crate::load::caller;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, Caller, Home, Message, unique, wait_for};

const PATH: &str = "/v1/verify";
const CALLS: usize = 1000;
const FORGERIES: usize = 200;
const FORGERS: usize = 8;
/// How many callers send messages while their signer is revoked.
const CLIENTS: usize = 64;

fn order() -> Message {
    Message::new("POST", "https://service.example/orders?id=1").json(&json!({"amount": 1}))
}

fn signed(agent: &Agent) -> Value {
    order().signed(agent, Clock::system().now()).to_verify()
}

/// The verdict. Repeats the question while the queue is full.
async fn verdict(caller: &Caller, body: &Value) -> Answer {
    loop {
        let answer = caller.post(PATH, body).await;
        if answer.status != 503 {
            return answer;
        }
        answer.refused(503, "overloaded");
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_1000_verdicts_on_one_message_one_is_yes(#[values(Sqlite, Postgres)] on: Database) {
    // A short queue, so that some callers are refused during the race.
    let home = Home::on(on).await.set("claims.queue", 64);
    let process = home.start().await;
    one_is_yes(&[caller(&home, &process)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_1000_verdicts_through_two_instances_one_is_yes() {
    let pair = Pair::start(Home::on(Postgres).await).await;
    one_is_yes(&pair.callers).await;
}

/// Asks all instances at once about one message, with each call on a connection of its own.
async fn one_is_yes(callers: &[Caller]) {
    let body = Arc::new(signed(&Agent::new(KeyType::Ed25519)).to_string());
    let mut connections = Vec::new();
    for caller in callers.iter().cycle().take(CALLS) {
        connections.push(Connection::open(caller).await);
    }
    let mut calls = JoinSet::new();
    for mut connection in connections {
        let body = Arc::clone(&body);
        calls.spawn(async move {
            loop {
                let (status, answer) = connection.post(&body).await;
                if status != 503 {
                    return (status, answer);
                }
                assert_eq!(answer["code"], "overloaded", "{answer}");
            }
        });
    }
    let answers = calls.join_all().await;
    let (yes, no): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
    assert_eq!((yes.len(), no.len()), (1, CALLS - 1), "{yes:?}");
    let first_used_at = &no[0].1["first_used_at"];
    assert!(first_used_at.is_string(), "{:?}", no[0]);
    for (status, answer) in &no {
        assert_eq!((*status, &answer["code"]), (403, &json!("signature_replayed")), "{answer}");
        assert_eq!(&answer["first_used_at"], first_used_at, "all learn of the same use");
    }
}

/// A connection that was used before. The first request on a new one must arrive within
/// seconds, which a thousand at once may not do on a busy machine.
struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Connection {
    async fn open(caller: &Caller) -> Self {
        let host = caller.base().strip_prefix("http://").unwrap();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\n",
            caller.token_text()
        );
        let stream = BufReader::new(TcpStream::connect(host).await.unwrap());
        let mut connection = Self { stream, head };
        let (status, answer) = connection.post("{}").await;
        assert_eq!(status, 422, "{answer}");
        connection
    }

    async fn post(&mut self, body: &str) -> (u16, Value) {
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).await.unwrap(), 0, "no answer: {head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut answer = vec![0; length.unwrap().parse().unwrap()];
        self.stream.read_exact(&mut answer).await.unwrap();
        (status, serde_json::from_slice(&answer).unwrap())
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn forgeries_beside_a_message_spend_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let process = home.start().await;
    let (caller, raw) = (caller(&home, &process), home.raw().await);
    let agent = Agent::new(KeyType::Ed25519);
    let mut forger = Agent::new(KeyType::Ed25519).signer;
    forger.key_id = agent.signer.key_id.clone();
    let nonce = format!("the-nonce-of-both-{}", unique());
    let now = Clock::system().now();
    let right = order().signed_with(&agent.signer, &nonce, now).to_verify();
    let forged = Arc::new(order().signed_with(&forger, &nonce, now).to_verify());

    let sent = Arc::new(AtomicU64::new(0));
    let mut forgers = JoinSet::new();
    for _ in 0..FORGERS {
        let (caller, forged, sent) = (caller.clone(), Arc::clone(&forged), Arc::clone(&sent));
        forgers.spawn(async move {
            for _ in 0..FORGERIES / FORGERS {
                verdict(&caller, &forged).await.refused(403, "signature_invalid");
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    // Some come before the revocation, the others during and after it.
    wait_for("forgeries", async || (sent.load(Ordering::SeqCst) >= 20).then_some(())).await;
    assert_eq!(raw.number("count(*) FROM signer_nonces").await, 0, "a forgery spent a nonce");
    verdict(&caller, &right).await.is(200);
    forgers.join_all().await;
    verdict(&caller, &forged).await.refused(403, "signature_invalid");
    verdict(&caller, &right).await.refused(403, "signature_replayed");
    assert_eq!(raw.number("count(*) FROM signer_nonces").await, 1);
}

/// The state that the callers of one round share.
#[derive(Default)]
struct Round {
    revoked: AtomicBool,
    accepted: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_revoked_signer_passes_on_either_instance() {
    // Both instances cache the key for longer than the test takes: the claim must decide.
    let pair = Pair::start(Home::on(Postgres).await.set("dids.cache_ttl_seconds", 300)).await;
    for number in 0..6 {
        let key_type = KeyType::ALL[number % KeyType::ALL.len()];
        let (agent, round) = (Agent::new(key_type), Arc::new(Round::default()));
        // Signed before the revocation, asked about after it.
        let kept = signed(&agent);
        for caller in &pair.callers {
            verdict(caller, &signed(&agent)).await.is(200);
        }
        let mut workers = JoinSet::new();
        for caller in pair.callers.iter().cycle().take(CLIENTS) {
            workers.spawn(ask_until_revoked(caller.clone(), agent.clone(), Arc::clone(&round)));
        }
        wait_for("verdicts before the revocation", async || {
            (round.accepted.load(Ordering::SeqCst) >= CLIENTS as u64).then_some(())
        })
        .await;
        let revoke = format!("/v1/dids/{}/revoke", agent.did);
        pair.callers[number % 2].post(&revoke, &json!({})).await.is(200);
        round.revoked.store(true, Ordering::SeqCst);
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        for caller in &pair.callers {
            verdict(caller, &kept).await.refused(403, "signature_key_revoked");
        }
    }
}

/// Asks about new messages, until one is refused that was sent after the revocation returned.
async fn ask_until_revoked(caller: Caller, agent: Agent, round: Arc<Round>) {
    loop {
        let too_late = round.revoked.load(Ordering::SeqCst);
        let answer = verdict(&caller, &signed(&agent)).await;
        if answer.status == 200 {
            assert!(!too_late, "accepted after the revocation: {answer:?}");
            round.accepted.fetch_add(1, Ordering::SeqCst);
        } else {
            answer.refused(403, "signature_key_revoked");
            if too_late {
                return;
            }
        }
    }
}
