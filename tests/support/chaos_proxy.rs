//! A TCP proxy in front of PostgreSQL that cuts connections on demand, at the worst moment.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Passes everything through until it gets an order. Closes everything when dropped.
pub struct ChaosProxy {
    address: SocketAddr,
    orders: Arc<Orders>,
    listener: JoinHandle<()>,
}

struct Orders {
    upstream: Mutex<SocketAddr>,
    refuse: AtomicBool,
    /// Counts the orders to cut every connection.
    cuts: watch::Sender<u64>,
    /// Nothing is read from either side while this is `true`.
    frozen: watch::Sender<bool>,
    cut_at: Mutex<Option<CutAt>>,
    lost: AtomicU64,
    lost_one: Notify,
}

/// The one message at which a connection is cut.
struct CutAt {
    /// The bytes that the message contains. Empty means any message.
    pattern: Vec<u8>,
    /// How many such messages pass first.
    skip: usize,
    cut: Cut,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// PostgreSQL never sees the message.
    BeforeTheMessage,
    /// PostgreSQL has carried out the message and answered completely, but the client cannot know.
    BeforeTheAnswer,
}

/// PostgreSQL ends an answer with `ReadyForQuery`: `Z`, length 5, and one byte of status.
const READY_FOR_QUERY: [u8; 5] = [b'Z', 0, 0, 0, 5];

impl ChaosProxy {
    /// Starts a proxy in front of the PostgreSQL of this URL.
    pub async fn in_front_of(url: &str) -> Self {
        let upstream = address_of(url).await;
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let orders = Arc::new(Orders {
            upstream: Mutex::new(upstream),
            refuse: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
            frozen: watch::Sender::new(false),
            cut_at: Mutex::new(None),
            lost: AtomicU64::new(0),
            lost_one: Notify::new(),
        });
        let listener = tokio::spawn(listen(socket, Arc::clone(&orders)));
        Self { address, orders, listener }
    }

    /// The URL of the same database, through this proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_host(Some(&self.address.ip().to_string())).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, leads new connections to the PostgreSQL of this URL.
    pub async fn lead_to(&self, url: &str) {
        let upstream = address_of(url).await;
        *self.orders.upstream.lock().unwrap() = upstream;
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.orders.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Closes new connections at once (`true`), or lets them through again.
    pub fn refuse(&self, refuse: bool) {
        self.orders.refuse.store(refuse, Ordering::SeqCst);
    }

    /// With `true`, lets nothing through until it is called with `false`. Connections stay open.
    pub fn freeze(&self, freeze: bool) {
        self.orders.frozen.send_replace(freeze);
    }

    /// Once: forwards the next message that contains `bytes` (empty: any message), waits until
    /// PostgreSQL has answered it completely, and then cuts the connection without passing the
    /// answer on. The request was carried out, but the client cannot know.
    pub fn lose_answer_to(&self, bytes: &[u8]) {
        self.cut_at(bytes, 0, Cut::BeforeTheAnswer);
    }

    /// Once: lets `skip` messages that contain `bytes` (empty: any message) pass, and cuts the
    /// connection of the one after them, before or after PostgreSQL has got it.
    pub fn cut_at(&self, bytes: &[u8], skip: usize, cut: Cut) {
        let order = CutAt { pattern: bytes.to_vec(), skip, cut };
        *self.orders.cut_at.lock().unwrap() = Some(order);
    }

    /// Withdraws the order. `true` if it had not been carried out.
    pub fn never_mind(&self) -> bool {
        self.orders.cut_at.lock().unwrap().take().is_some()
    }

    /// How many answers have been lost so far.
    pub fn answers_lost(&self) -> u64 {
        self.orders.lost.load(Ordering::SeqCst)
    }

    /// Waits until `count` answers have been lost.
    pub async fn wait_for_lost_answers(&self, count: u64) {
        loop {
            let next = self.orders.lost_one.notified();
            if self.answers_lost() >= count {
                return;
            }
            next.await;
        }
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn address_of(url: &str) -> SocketAddr {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let host = match config.get_hosts() {
        [tokio_postgres::config::Host::Tcp(host)] => host.clone(),
        other => panic!("a URL with one TCP host is needed, not {other:?}"),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    tokio::net::lookup_host((host, port)).await.unwrap().next().unwrap()
}

async fn listen(socket: TcpListener, orders: Arc<Orders>) {
    loop {
        let Ok((client, _)) = socket.accept().await else { return };
        if orders.refuse.load(Ordering::SeqCst) {
            continue;
        }
        let cuts = orders.cuts.subscribe();
        tokio::spawn(relay(client, Arc::clone(&orders), cuts));
    }
}

/// Relays one connection until either side closes it or an order cuts it.
async fn relay(mut client: TcpStream, orders: Arc<Orders>, mut cuts: watch::Receiver<u64>) {
    let upstream = *orders.upstream.lock().unwrap();
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut request, mut answer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    // While `Some`, the end of the answer that is held back.
    let mut kept_back: Option<Vec<u8>> = None;
    let mut frozen = orders.frozen.subscribe();
    loop {
        tokio::select! {
            _ = cuts.changed() => return,
            () = until(&mut frozen, false) => {}
        }
        tokio::select! {
            _ = cuts.changed() => return,
            () = until(&mut frozen, true) => {}
            read = client.read(&mut request) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &request[..length];
                match orders.cut_for(bytes) {
                    Some(Cut::BeforeTheMessage) => return,
                    Some(Cut::BeforeTheAnswer) => kept_back = Some(Vec::new()),
                    None => {}
                }
                if server.write_all(bytes).await.is_err() { return }
            }
            read = server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &answer[..length];
                let Some(kept) = &mut kept_back else {
                    if client.write_all(bytes).await.is_err() { return }
                    continue;
                };
                kept.extend_from_slice(bytes);
                if kept.len() > 5 && kept[..kept.len() - 1].ends_with(&READY_FOR_QUERY) {
                    orders.lost.fetch_add(1, Ordering::SeqCst);
                    orders.lost_one.notify_waiters();
                    return;
                }
            }
        }
    }
}

/// Waits until the condition holds. The guard that `wait_for` returns must not be held across an
/// `await`.
async fn until(value: &mut watch::Receiver<bool>, wanted: bool) {
    let _ = value.wait_for(|value| *value == wanted).await;
}

impl Orders {
    /// Whether, and when, to cut the connection of this message. No other connection is then cut.
    fn cut_for(&self, bytes: &[u8]) -> Option<Cut> {
        let mut order = self.cut_at.lock().unwrap();
        let CutAt { pattern, skip, cut } = order.as_mut()?;
        let hit = pattern.is_empty() || bytes.windows(pattern.len()).any(|part| part == *pattern);
        if !hit {
            return None;
        }
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        let cut = *cut;
        *order = None;
        Some(cut)
    }
}
