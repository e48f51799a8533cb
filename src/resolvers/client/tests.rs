//! What is dialled, by whom the listener of each test hears from. It speaks no TLS, so that every
//! request fails in the end; there is no way to the addresses that are forbidden here.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::net::TcpListener;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nobody listens there.
const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Closes every connection, and counts them.
struct Listener {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Listener {
    async fn start() -> Self {
        let socket = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok(_connection) = socket.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Trusts an authority of its own, whether the system has any or not.
fn client(names: Names) -> Client {
    let made = rcgen::generate_simple_self_signed(["agent.example".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    Client::new(names, Some(file.path()), Duration::from_mins(1)).unwrap()
}

/// Asks for a name that has these addresses at its look-ups, the last ones ever after. Returns
/// what became of it, and how often the name was looked up.
async fn ask(
    port: u16,
    answers: &[&[IpAddr]],
    may_dial: fn(IpAddr) -> bool,
) -> (Result<Response, Failure>, usize) {
    let mut answers: VecDeque<Vec<_>> = answers.iter().map(|answer| answer.to_vec()).collect();
    let mut last = answers.front().cloned().unwrap();
    let answers = Mutex::new(move || {
        last = answers.pop_front().unwrap_or_else(|| last.clone());
        last.clone()
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up = move |name: &str| {
        assert_eq!(name, "agent.example");
        count.fetch_add(1, Ordering::SeqCst);
        Ok(answers.lock().unwrap()().into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    };
    let client = client(Names::new(Arc::new(look_up), may_dial, 1));
    let url = Url::parse(&format!("https://agent.example:{port}/")).unwrap();
    let result = client.get(&url, "*/*").await;
    (result, asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn an_answer_that_changes_leads_nowhere_else() {
    let listener = Listener::start().await;
    let answers: [&[_]; 2] = [&[HERE], &[FORBIDDEN]];
    let (result, asked) = ask(listener.port, &answers, |address| address != FORBIDDEN).await;
    // The first attempt dials what it has checked, without another look-up; the second one looks
    // up, and checks, anew.
    assert_eq!(listener.connections(), 1);
    assert_eq!(asked, 2);
    assert_eq!(result.unwrap_err(), Failure::Forbidden);
}

#[tokio::test]
async fn every_address_that_may_be_dialled_is() {
    let listener = Listener::start().await;
    let answers: [&[_]; 1] = [&[FORBIDDEN, SILENT, HERE]];
    let (result, asked) = ask(listener.port, &answers, |address| address != FORBIDDEN).await;
    assert_eq!(result.unwrap_err(), Failure::Connect("closes connections at once"));
    assert_eq!((listener.connections(), asked), (2, 2));
}

#[tokio::test]
async fn only_the_internet_is_dialled() {
    let listener = Listener::start().await;
    let answers: [&[_]; 1] = [&[HERE, IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), FORBIDDEN]];
    let (result, asked) = ask(listener.port, &answers, address::is_global_unicast).await;
    assert_eq!((result.unwrap_err(), asked), (Failure::Forbidden, 1));
    // Nobody is asked about addresses.
    let names = || {
        let look_up = |name: &str| panic!("{name} was looked up");
        Names::new(Arc::new(look_up), address::is_global_unicast, 1)
    };
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1"] {
        let url = Url::parse(&format!("https://{host}:{}/", listener.port)).unwrap();
        let result = client(names()).get(&url, "*/*").await;
        assert_eq!(result.unwrap_err(), Failure::Forbidden, "{host}");
    }
    assert_eq!(listener.connections(), 0);
}

#[tokio::test]
async fn a_name_without_addresses_is_looked_up_twice() {
    let (result, asked) = ask(1, &[&[]], |_| true).await;
    assert_eq!((result.unwrap_err(), asked), (Failure::Connect("has no address"), 2));
}

/// A look-up cannot be broken off: its thread counts until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_that_hang_do_not_pile_up() {
    let (begun, begins) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let (begun, ended) = (Mutex::new(begun), Mutex::new(ended));
    let look_up = move |_: &str| {
        begun.lock().unwrap().send(()).unwrap();
        let _ = ended.lock().unwrap().recv();
        Ok(Vec::new())
    };
    let client = Arc::new(client(Names::new(Arc::new(look_up), |_| true, 1)));
    let url = Url::parse("https://agent.example/").unwrap();
    let first = {
        let (client, url) = (Arc::clone(&client), url.clone());
        tokio::spawn(async move { client.get(&url, "*/*").await })
    };
    let begins = tokio::task::spawn_blocking(move || begins.recv().map(|()| begins));
    let begins = begins.await.unwrap().unwrap();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let busy = client.get(&url, "*/*").await.unwrap_err();
    assert_eq!(busy, Failure::Connect("waits for other names to be looked up"));
    assert!(begins.try_recv().is_err());
    // Without a sender, look-ups end at once.
    drop(end);
    while client.get(&url, "*/*").await.unwrap_err() == busy {}
    begins.try_recv().unwrap();
}
