//! A receiver of webhooks for one test. It notes what it gets, and answers as the test wants: also by
//! not answering, or by closing the connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the receiver does with a request that it noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// This status, and lines for the head, each with its `\r\n`.
    With(u16, &'static str),
    Nothing,
    Close,
}

/// A request that came whole.
#[derive(Debug, Clone)]
pub struct Got {
    pub head: String,
    /// By names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `webhook-id`.
    pub fn id(&self) -> String {
        self.headers["webhook-id"].clone()
    }

    pub fn subject(&self) -> String {
        self.json()["data"]["subject"].as_str().unwrap().to_owned()
    }
}

pub struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    answers: Mutex<Answers>,
    got: Mutex<Vec<Got>>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_over(None).await
    }

    /// One over TLS.
    pub async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::start_over(Some(tls)).await
    }

    async fn start_over(tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Mutex::new(Answers::With(204, ""));
        let shared = Arc::new(Shared { answers, got: Mutex::default() });
        let all = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, tls) = (Arc::clone(&all), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, all).await,
                        // A client that does not trust the certificate breaks off.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, all).await;
                            }
                        }
                    }
                });
            }
        });
        Self { scheme, address, shared, accepting }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The URL with `localhost` for its host.
    pub fn url_by_name(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    pub fn answers(&self, answers: Answers) {
        *self.shared.answers.lock().unwrap() = answers;
    }

    /// Everything that it got so far.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.got.lock().unwrap().len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one connection until its end.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    while let Some(got) = read(&mut stream, &mut buffer).await {
        shared.got.lock().unwrap().push(got);
        let answers = shared.answers.lock().unwrap().clone();
        match answers {
            Answers::With(status, lines) => {
                let empty = if status == 204 { "" } else { "content-length: 0\r\n" };
                let answer = format!("HTTP/1.1 {status} Test\r\n{empty}{lines}\r\n");
                let written = stream.write_all(answer.as_bytes()).await;
                if written.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Answers::Nothing => std::future::pending().await,
            Answers::Close => return,
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Got> {
    loop {
        if let Some((got, length)) = parse(buffer) {
            buffer.drain(..length);
            return Some(got);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// A request that is whole, and its length.
fn parse(buffer: &[u8]) -> Option<(Got, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let (head, lines) = text.split_once("\r\n").unwrap();
    let headers: HashMap<String, String> = lines
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    let body = buffer.get(end + 4..end + 4 + length)?.to_vec();
    let got = Got { head: head.to_owned(), headers, body };
    Some((got, end + 4 + length))
}
