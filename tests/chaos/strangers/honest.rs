//! Callers with a token, and an agent, that claim one nonce after the other during an attack, on
//! kept connections and on new ones.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onceguard::clock::Clock;
use onceguard::domain::KeyType;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::{caller, ops};
use crate::support::{Agent, Home, Message, Process, RawHttp, wait_for};

/// The number of calls before the attack, and after its beginning.
const QUIET: u64 = 300;
const SERVED: u64 = 100;
/// Attack, test and service share the processors, which may be slow ones. So a call may take so many
/// times as long as before, and this long even if calls were faster before. Without the bounds, calls
/// wait until something times out, or fail.
const LONGER: u32 = 20;
const FLOOR: Duration = Duration::from_secs(5);
const MEMORY: u64 = 100 * 1024;
/// The newer connections of its peer for which a new connection is never closed unread. The bound is
/// 512 (`limits.stranger_connections_per_peer`); the threads of the service do not take connections
/// in their exact order.
const NEWER: u64 = 400;

pub struct Honest {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
    before: Vec<Duration>,
    resident_kib: u64,
}

struct Shared {
    stop: AtomicBool,
    served: AtomicU64,
    took: Mutex<Vec<Duration>>,
    /// Connections that the attack has begun to open.
    attackers: Arc<AtomicU64>,
}

/// The calls so far.
pub struct Counts {
    pub served: f64,
    pub queries: f64,
}

impl Honest {
    /// Starts them, and returns once they were served for a while.
    pub async fn start(home: &Home, process: &Process) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            took: Mutex::default(),
            attackers: Arc::default(),
        });
        let session = caller(home, process).session().await;
        let mut callers = JoinSet::new();
        let token = home.token();
        for number in 0..3 {
            let (kept, shared) = (caller(home, process), Arc::clone(&shared));
            let (path, address) = (format!("/v1/sessions/{session}/nonces"), process.api);
            let head = head("POST", &path, &token);
            callers.spawn(async move {
                let mut calls = 0;
                while !shared.stop.load(Ordering::Relaxed) {
                    calls += 1;
                    let nonce = json!({ "nonce": format!("{number}-{calls}") });
                    // Each fifth call is made on a new connection.
                    if calls % 5 == 0 {
                        let body = nonce.to_string();
                        let call = format!(
                            "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        shared.timed(async || shared.claims_anew(address, &call).await).await;
                    } else {
                        let claim = kept.request("POST", &path).json(&nonce);
                        shared.timed(async || claim.send().await.is(201)).await;
                    }
                }
            });
        }
        let (stranger, agents) = (caller(home, process).with_token(None), Arc::clone(&shared));
        callers.spawn(async move {
            let agent = Agent::new(KeyType::Ed25519);
            while !agents.stop.load(Ordering::Relaxed) {
                let path = format!("/v1/sessions?client_did={}", agent.did);
                let message = Message::new("GET", &format!("{}{path}", stranger.base()));
                let message = message.signed(&agent, Clock::system().now());
                agents.timed(async || message.to_http(&stranger).send().await.is(200)).await;
            }
        });
        // A client would quietly connect again. This one cannot.
        let (mut kept, keeps) = (RawHttp::connect(process.api).await, Arc::clone(&shared));
        let call = head("GET", &format!("/v1/sessions/{session}"), &token) + "\r\n";
        callers.spawn(async move {
            while !keeps.stop.load(Ordering::Relaxed) {
                kept.send(&call).await;
                assert_eq!(kept.answer().await.0, 200);
                keeps.served.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut honest = Self { shared, callers, before: Vec::new(), resident_kib: 0 };
        honest.is_served(QUIET).await;
        honest.before = std::mem::take(&mut *honest.shared.took.lock().unwrap());
        honest.resident_kib = kib(process, "VmRSS");
        honest
    }

    async fn is_served(&mut self, calls: u64) {
        let before = self.shared.served.load(Ordering::Relaxed);
        wait_for("honest callers to be served", async || {
            if let Some(ended) = self.callers.try_join_next() {
                ended.unwrap();
            }
            (self.shared.served.load(Ordering::Relaxed) >= before + calls).then_some(())
        })
        .await;
    }

    /// Counts the connections that the attack opens, each before it is opened: the kernel finishes it
    /// at once, but the task that asked for it may hear of that much later.
    pub fn attackers(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.attackers)
    }

    pub async fn counts(&self, process: &Process) -> Counts {
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let served = self.shared.served.load(Ordering::Relaxed) as f64;
        let queries = ops(process).metric("onceguard_database_operations_total", &[]).await;
        Counts { served, queries }
    }

    /// Checks, after an attack, that every call got the right answer in about the same time as
    /// before, and that the process never was much larger.
    #[allow(clippy::print_stdout, reason = "the figures are a report")]
    pub async fn was_served(mut self, attack: &str, home: &Home, process: &Process) {
        self.is_served(SERVED).await;
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        let during = std::mem::take(&mut *self.shared.took.lock().unwrap());
        let calls = during.len();
        let (before, during) = (p99(self.before), p99(during));
        let grown = kib(process, "VmHWM").saturating_sub(self.resident_kib);
        println!(
            "{attack}: {calls} honest calls, p99 {before:?} before and {during:?} during it; \
             {grown} KiB more at most, of {} KiB before",
            self.resident_kib
        );
        assert!(
            during <= (before * LONGER).max(FLOOR),
            "p99 {during:?}, {before:?} before {attack}"
        );
        assert!(grown <= MEMORY, "{attack} took {grown} KiB");
        // Also for a caller that comes only now.
        caller(home, process).get("/v1/sessions").await.is(200);
    }
}

impl Shared {
    /// Claims on a new connection. One that sends nothing until too many newer ones have come may be
    /// closed unread.
    async fn claims_anew(&self, address: SocketAddr, call: &str) {
        loop {
            let before = self.attackers.load(Ordering::Relaxed);
            let mut anew = RawHttp::connect(address).await;
            let _ = anew.try_send(call).await;
            let newer = self.attackers.load(Ordering::Relaxed) - before;
            match anew.try_answer().await {
                Some((status, text)) => return assert_eq!(status, 201, "{text}"),
                None => assert!(newer > NEWER, "closed when {newer} newer connections had come"),
            }
        }
    }

    async fn timed<T>(&self, call: impl AsyncFnOnce() -> T) {
        let started = Instant::now();
        call().await;
        self.took.lock().unwrap().push(started.elapsed());
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

fn head(method: &str, path: &str, token: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n")
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

/// A figure of a process's memory, as Linux tells it.
fn kib(process: &Process, figure: &str) -> u64 {
    let file = format!("/proc/{}/status", process.pid());
    let status = std::fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("{file}: {error}; this test measures memory, for which it needs Linux")
    });
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("{file} has no {figure}"));
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
