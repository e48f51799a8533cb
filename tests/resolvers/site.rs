//! An HTTPS host on 127.0.0.1 that answers byte by byte as a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onceguard::domain::Did;
use rcgen::CertificateParams;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::support::{Authority, DEADLINE, certificate, did};

/// What a site does with a request, in order; then it closes the connection.
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Sends this again and again, with a pause, until nobody listens any more.
    SendForEver(Vec<u8>, Duration),
    /// Waits until one may go on.
    Wait(Arc<Semaphore>),
}

pub(crate) type Script = Vec<Step>;

/// An answer with its head and body as they are, but for the line's ends.
pub(crate) fn raw(head: &str, body: impl AsRef<[u8]>) -> Script {
    let head = format!("{head}\n\n").replace('\n', "\r\n");
    vec![Step::Send([head.as_bytes(), body.as_ref()].concat())]
}

/// A whole answer.
pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Script {
    let length = body.as_ref().len();
    raw(
        &format!(
            "HTTP/1.1 {status} Whatever\nContent-Type: application/json\nContent-Length: {length}"
        ),
        body,
    )
}

pub(crate) fn json(body: &Value) -> Script {
    answer(200, body.to_string())
}

/// A host. It ends when dropped.
pub(crate) struct Site {
    state: Arc<State>,
    listening: JoinHandle<()>,
}

struct State {
    port: u16,
    tls: TlsAcceptor,
    /// By the DID whose document is asked for.
    script: Box<dyn Fn(&Did) -> Script + Send + Sync>,
    connections: AtomicUsize,
    /// How many of the next connections are closed at once.
    refuses: AtomicUsize,
    /// The heads that have come.
    requests: watch::Sender<Vec<String>>,
}

impl Site {
    /// One with a certificate for `localhost` and 127.0.0.1.
    pub(crate) async fn start(
        authority: &Authority,
        script: impl Fn(&Did) -> Script + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(&certificate(&["localhost", "127.0.0.1"]), authority, script).await
    }

    /// One with this certificate.
    pub(crate) async fn start_with(
        certificate: &CertificateParams,
        authority: &Authority,
        script: impl Fn(&Did) -> Script + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let state = Arc::new(State {
            port,
            tls: authority.acceptor(certificate),
            script: Box::new(script),
            connections: AtomicUsize::new(0),
            refuses: AtomicUsize::new(0),
            requests: watch::Sender::default(),
        });
        let listening = tokio::spawn(listen(socket, Arc::clone(&state)));
        Self { state, listening }
    }

    pub(crate) fn port(&self) -> u16 {
        self.state.port
    }

    /// The DID at `localhost`, with this path, such as `:agents:a`.
    pub(crate) fn did(&self, path: &str) -> Did {
        did(&format!("did:web:localhost%3A{}{path}", self.state.port))
    }

    /// Closes the next connections at once.
    pub(crate) fn refuse(&self, connections: usize) {
        self.state.refuses.store(connections, Ordering::SeqCst);
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The heads of the requests that have come.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.borrow().clone()
    }

    pub(crate) async fn wait_for_requests(&self, count: usize) {
        let mut requests = self.state.requests.subscribe();
        let come = requests.wait_for(|requests| requests.len() >= count);
        within_deadline(come).await.unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(socket: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = socket.accept().await.unwrap();
        state.connections.fetch_add(1, Ordering::SeqCst);
        let refuses = &state.refuses;
        if refuses.load(Ordering::SeqCst) > 0 {
            refuses.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        connections.spawn(serve(connection, Arc::clone(&state)));
    }
}

/// A test that hangs fails.
pub(crate) async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("an end")
}

/// Serves one request; `None` when the client has gone.
async fn serve(connection: TcpStream, state: Arc<State>) -> Option<()> {
    let mut connection = state.tls.accept(connection).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().strip_suffix("/did.json").unwrap();
    let path = if path == "/.well-known" { String::new() } else { path.replace('/', ":") };
    let did = did(&format!("did:web:localhost%3A{}{path}", state.port));
    state.requests.send_modify(|requests| requests.push(head));
    for step in (state.script)(&did) {
        match step {
            Step::Send(bytes) => connection.write_all(&bytes).await.ok()?,
            Step::SendForEver(bytes, pause) => loop {
                connection.write_all(&bytes).await.ok()?;
                connection.flush().await.ok()?;
                tokio::time::sleep(pause).await;
            },
            Step::Wait(until) => until.acquire().await.unwrap().forget(),
        }
        connection.flush().await.ok()?;
    }
    connection.shutdown().await.ok()
}
