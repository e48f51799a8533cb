//! How fast claims are: the release binary, called over keep-alive connections by a closed loop
//! (each connection sends its next request when it has the answer to the last one).
//!
//! `make bench` runs it on SQLite and on a throw-away PostgreSQL. Load generator, service and
//! database share this machine, so only ratios between runs on one machine mean anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// For throw-away databases only.
const TOKEN: &str = "og_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const SEALING_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);

struct Service {
    process: Child,
    folder: tempfile::TempDir,
}

impl Service {
    fn start(database_url: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_onceguard"));
        command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .env("ONCEGUARD_OPS__LISTEN", "127.0.0.1:0")
            .env("ONCEGUARD_DATABASE__MIGRATE_ON_START", "true")
            .env("ONCEGUARD_SEALING__KEY", SEALING_KEY)
            .env("ONCEGUARD_AUTH__ADMIN_TOKEN", TOKEN)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null());
        if let Some(url) = database_url {
            command.args(["--database-url", url]);
        }
        let mut service = Self { process: command.spawn().unwrap(), folder };
        // Written last, once requests are served.
        while service.read("ops.addr").is_none() {
            let died = service.process.try_wait().unwrap();
            assert!(died.is_none(), "the service did not start: {died:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(Path::new(self.folder.path()).join(name)).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.read("listen.addr").unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let head = format!(
            "Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        );
        Connection { stream: BufReader::new(stream), head, line: String::new(), body: Vec::new() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    /// Posts `body` and returns the status; the answer is left in `self.body`.
    async fn post(&mut self, path: &str, body: &str) -> u16 {
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n{body}", self.head);
        self.stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        let mut status = 0;
        let mut length = 0;
        loop {
            self.line.clear();
            self.stream.read_line(&mut self.line).await.unwrap();
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await.unwrap();
        status
    }
}

/// One row of the table.
struct Load {
    name: &'static str,
    connections: usize,
    /// Nonces in one request; 1 uses the call for one nonce.
    batch: usize,
}

const LOADS: [Load; 3] = [
    Load { name: "single claims, 64 connections", connections: 64, batch: 1 },
    Load { name: "single claims, 256 connections", connections: 256, batch: 1 },
    Load { name: "batches of 256, 4 connections", connections: 4, batch: 256 },
];

async fn run(service: &Service, load: &Load) -> (f64, Vec<Duration>) {
    let started = Instant::now();
    let (from, until) = (started + WARM_UP, started + WARM_UP + MEASURED);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..load.connections {
        let mut connection = service.connect().await;
        let opening = r#"{"client_did":"did:web:a.example","server_did":"did:web:b.example"}"#;
        assert_eq!(connection.post("/v1/sessions", opening).await, 201);
        let session: serde_json::Value = serde_json::from_slice(&connection.body).unwrap();
        let session = session["id"].as_str().unwrap().to_owned();
        let batch = load.batch;
        clients.spawn(async move {
            let path = format!("/v1/sessions/{session}/nonces");
            let mut latencies = Vec::new();
            let mut number = 0_u64;
            let mut nonce = || {
                number += 1;
                format!("{client:04x}-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            };
            loop {
                let sent = Instant::now();
                if sent >= until {
                    return latencies;
                }
                if batch == 1 {
                    let body = format!(r#"{{"nonce":"{}"}}"#, nonce());
                    assert_eq!(connection.post(&path, &body).await, 201);
                } else {
                    let claim =
                        |nonce| format!(r#"{{"session_id":"{session}","nonce":"{nonce}"}}"#);
                    let claims: Vec<_> = (0..batch).map(|_| claim(nonce())).collect();
                    let body = format!(r#"{{"claims":[{}]}}"#, claims.join(","));
                    assert_eq!(connection.post("/v1/claims", &body).await, 200);
                }
                if sent >= from {
                    latencies.push(sent.elapsed());
                }
            }
        });
    }
    let mut latencies: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    let nonces = latencies.len() * load.batch;
    (nonces as f64 / MEASURED.as_secs_f64(), latencies)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!(
        "{:<12} {:<32} {:>10} {:>9} {:>9}",
        "database", "load", "nonces/s", "p50 ms", "p99 ms"
    );
    let postgres = std::env::var("TEST_POSTGRES_URL").ok();
    assert!(postgres.is_some(), "TEST_POSTGRES_URL is not set: run `make bench`");
    for (database, url) in [("SQLite", None), ("PostgreSQL", postgres.as_deref())] {
        for load in &LOADS {
            let service = Service::start(url);
            let (rate, latencies) = runtime.block_on(run(&service, load));
            let quantile =
                |part: usize| latencies[latencies.len() * part / 100].as_secs_f64() * 1e3;
            println!(
                "{database:<12} {:<32} {rate:>10.0} {:>9.2} {:>9.2}",
                load.name,
                quantile(50),
                quantile(99)
            );
        }
    }
}
