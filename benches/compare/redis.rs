//! Redis: `SET key 1 NX EX 3600`, which answers whether the key was new. It has its own defaults,
//! except for persistence, and makes no snapshots.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::Result;
use crate::bench::{Bench, Sample, Subject};
use crate::process::Process;
use crate::wire::RedisClient;

/// Names the program to start, when it is not in PATH.
const PROGRAM: &str = "BENCH_REDIS_SERVER";

#[derive(Debug, Clone, Copy)]
pub enum Persistence {
    None,
    EverySecond,
    Always,
}

pub fn program() -> String {
    std::env::var(PROGRAM).unwrap_or_else(|_| "redis-server".to_owned())
}

pub fn version() -> Result<String> {
    let output = Command::new(program()).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(version.unwrap_or("unknown").to_owned())
}

/// Each connection sends `pipeline` commands at once, and waits for all their answers.
pub fn claims(
    bench: &Bench,
    connections: usize,
    persistence: Persistence,
    pipeline: usize,
) -> Result<Sample> {
    let folder = bench.folder()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut command = Command::new(program());
    command.stdout(Stdio::null()).current_dir(folder.path());
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    match persistence {
        Persistence::None => command.args(["--appendonly", "no"]),
        Persistence::EverySecond => {
            command.args(["--appendonly", "yes", "--appendfsync", "everysec"])
        }
        Persistence::Always => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
    };
    let process = Process::spawn(&mut command)?;
    process.until("redis-server", || TcpStream::connect(address).ok())?;
    let sessions: Arc<[String]> = (0..64).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    let subject = Subject { address, pid: process.id(), postgres: None };
    subject.measure(bench, connections, pipeline, &|| RedisClient::boxed(&sessions, pipeline))
}
