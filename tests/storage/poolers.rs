//! A pooler in transaction mode before PostgreSQL, as PgBouncer is one: its clients share a process
//! of the server, which is none's own between two transactions.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::support::Database::Postgres;
use crate::support::{database_url, store_at};

/// What a client begins with when it wants another's statement cancelled.
const CANCEL: i32 = 80_877_102;

/// The one process of the server that all clients share.
struct Server {
    stream: TcpStream,
    /// What it said when the first client had logged in, for all who come later.
    greeting: Vec<u8>,
}

/// Starts a pooler before the server of this URL; its own.
async fn pool(url: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
    let stream = TcpStream::connect(server).await.unwrap();
    let server = Arc::new(Mutex::new(Server { stream, greeting: Vec::new() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, Arc::clone(&server)));
        }
    });
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(address.port())).unwrap();
    url.into()
}

/// Serves a client until it leaves, one transaction after the other.
async fn serve(mut client: TcpStream, server: Arc<Mutex<Server>>) -> io::Result<()> {
    let startup = read(&mut client, 0).await?;
    if i32::from_be_bytes(startup[4..8].try_into().unwrap()) == CANCEL {
        return Ok(());
    }
    log_in(&mut client, &startup, &mut *server.lock().await).await?;
    loop {
        let mut message = read(&mut client, 1).await?;
        let mut server = server.lock().await;
        loop {
            match message[0] {
                b'X' => return Ok(()),
                // Queries, and the ends of what was sent in parts, are answered.
                b'Q' | b'S' => {
                    server.stream.write_all(&message).await?;
                    if answer(&mut client, &mut server.stream).await? == b'I' {
                        break;
                    }
                }
                _ => server.stream.write_all(&message).await?,
            }
            message = read(&mut client, 1).await?;
        }
    }
}

/// The first client logs in for all.
async fn log_in(client: &mut TcpStream, startup: &[u8], server: &mut Server) -> io::Result<()> {
    if !server.greeting.is_empty() {
        return client.write_all(&server.greeting).await;
    }
    server.stream.write_all(startup).await?;
    loop {
        let message = read(&mut server.stream, 1).await?;
        client.write_all(&message).await?;
        match (message[0], message.get(5..9)) {
            // A password is asked for, in one of three ways, or proved further.
            (b'R', Some([0, 0, 0, 3 | 5 | 10 | 11])) => {
                let proof = read(client, 1).await?;
                server.stream.write_all(&proof).await?;
            }
            // What ends the proof is the first client's own.
            (b'R', Some([0, 0, 0, 12])) => {}
            (kind, _) => {
                server.greeting.extend(&message);
                if kind == b'Z' {
                    return Ok(());
                }
            }
        }
    }
}

/// Hands an answer on, and returns whether a transaction is open after it (`I` is none).
async fn answer(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<u8> {
    loop {
        let message = read(server, 1).await?;
        client.write_all(&message).await?;
        if message[0] == b'Z' {
            return Ok(message[5]);
        }
    }
}

/// The next message: so many bytes for its kind, its length, and as much.
async fn read(from: &mut TcpStream, kind: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; kind + 4];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(message[kind..].try_into().unwrap()) as usize;
    message.resize(kind + length, 0);
    from.read_exact(&mut message[kind + 4..]).await?;
    Ok(message)
}

/// How many poolers are found on the way to this URL's server.
async fn poolers(url: &str) -> usize {
    let store = store_at(&database_url(url)).await;
    let findings = store.findings().await.unwrap();
    store.close().await;
    let is_pooler = |what: &str| what.contains("a pooler in transaction mode");
    findings.iter().filter(|finding| finding.fatal && is_pooler(&finding.what)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_whose_clients_share_a_process_is_found() {
    let direct = Postgres.store().await;
    let url = direct.postgres_url();
    assert_eq!(poolers(&url).await, 0);
    assert_eq!(poolers(&pool(&url).await).await, 1);
}
