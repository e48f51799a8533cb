//! A JSON-RPC server on 127.0.0.1 that answers as a test says.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Stops when dropped, with all its connections.
pub struct Node {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    _server: Aborted,
}

/// A request, as the node saw it.
#[derive(Debug, Clone)]
pub struct Call {
    pub id: Value,
    pub method: String,
    pub params: Value,
}

#[derive(Debug, Clone)]
pub enum Reply {
    Result(Value),
    /// A JSON-RPC error of this code.
    Error(i64),
    /// A status, fields and a body, whatever they are.
    Http(u16, &'static str, String),
    /// The connection is closed.
    Close,
    /// Nothing ever comes.
    Silence,
}

type Answering = dyn Fn(Call) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    /// A node that takes no time to think.
    pub async fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_async(move |call| std::future::ready(answer(&call))).await
    }

    pub async fn start_async<F>(answer: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let answer: Arc<Answering> = Arc::new(move |call| Box::pin(answer(call)));
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, Arc::clone(&seen), Arc::clone(&answer)));
            }
        });
        Self { address, calls, _server: Aborted(server) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

async fn serve(mut connection: TcpStream, seen: Arc<Mutex<Vec<Call>>>, answer: Arc<Answering>) {
    while let Some(request) = read_request(&mut connection).await {
        let request: Value = serde_json::from_slice(&request).unwrap();
        let call = Call {
            id: request["id"].clone(),
            method: request["method"].as_str().unwrap().to_owned(),
            params: request["params"].clone(),
        };
        assert_eq!(request["jsonrpc"], "2.0");
        seen.lock().unwrap().push(call.clone());
        let id = call.id.clone();
        let (status, fields, body) = match answer(call).await {
            Reply::Result(result) => {
                (200, "", json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
            }
            Reply::Error(code) => {
                let error = json!({ "code": code, "message": "not repeated" });
                (200, "", json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
            }
            Reply::Http(status, fields, body) => (status, fields, body),
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
        };
        let response = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             {fields}\r\n{body}",
            body.len()
        );
        // The client may have heard enough.
        if connection.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The body of the next request, if there is one.
async fn read_request(connection: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let fields = String::from_utf8(bytes[..head].to_vec()).unwrap().to_ascii_lowercase();
            let length = fields.lines().find_map(|line| line.strip_prefix("content-length: "));
            let end = head + 4 + length.unwrap().parse::<usize>().unwrap();
            if bytes.len() >= end {
                return Some(bytes[head + 4..end].to_vec());
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
