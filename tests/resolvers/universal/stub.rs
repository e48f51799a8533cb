//! An HTTP server on 127.0.0.1 that answers byte by byte as a test says.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What the server does with a request; then it closes the connection.
#[derive(Clone)]
pub(super) enum Reply {
    Send(Vec<u8>),
    /// Nothing, for ever.
    Hang,
    /// Closes the connection before it has read a request.
    HangUp,
}

/// An answer with this head, whose lines end as is usual.
pub(super) fn raw(head: &str, body: impl AsRef<[u8]>) -> Reply {
    let head = format!("{head}\n\n").replace('\n', "\r\n");
    Reply::Send([head.as_bytes(), body.as_ref()].concat())
}

pub(super) fn answer(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Reply {
    let length = body.as_ref().len();
    raw(
        &format!(
            "HTTP/1.1 {status} Whatever\nContent-Type: {content_type}\nContent-Length: {length}"
        ),
        body,
    )
}

/// A DID resolution result, as the Universal Resolver sends it.
pub(super) fn result(status: u16, body: &Value) -> Reply {
    let legacy = "application/ld+json;profile=\"https://w3id.org/did-resolution\";charset=utf-8";
    answer(status, legacy, body.to_string())
}

/// Ends when dropped.
pub(super) struct Stub {
    port: u16,
    seen: watch::Receiver<Seen>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    /// The heads that have come.
    requests: Vec<String>,
}

impl Stub {
    pub(super) async fn start(reply: Reply) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (tell, seen) = watch::channel(Seen::default());
        Self { port, seen, listening: tokio::spawn(listen(socket, reply, Arc::new(tell))) }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.borrow().connections
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.borrow().requests.clone()
    }

    pub(super) async fn wait_for_requests(&self, count: usize) {
        self.seen.clone().wait_for(|seen| seen.requests.len() >= count).await.unwrap();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(socket: TcpListener, reply: Reply, seen: Arc<watch::Sender<Seen>>) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = socket.accept().await.unwrap();
        seen.send_modify(|seen| seen.connections += 1);
        connections.spawn(serve(connection, reply.clone(), Arc::clone(&seen)));
    }
}

/// Serves one request; `None` when the client has gone.
async fn serve(
    mut connection: TcpStream,
    reply: Reply,
    seen: Arc<watch::Sender<Seen>>,
) -> Option<()> {
    if matches!(reply, Reply::HangUp) {
        return None;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    seen.send_modify(|seen| seen.requests.push(String::from_utf8(head).unwrap()));
    match reply {
        Reply::Send(bytes) => {
            connection.write_all(&bytes).await.ok()?;
            connection.shutdown().await.ok()
        }
        Reply::Hang => std::future::pending().await,
        Reply::HangUp => None,
    }
}
