//! Which addresses are dialled, as the listener of each test sees it. The listener speaks no TLS,
//! so every request fails in the end. No forbidden address is reachable here.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::net::TcpListener;

use super::*;
use crate::config::{self, Need, Sources};
use crate::domain::Peer;
use crate::metrics::Metrics;
use crate::resolvers::places::{Account, Of, Places};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// No listener is there.
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

/// Trusts an authority of the test's own, so that the system needs none.
fn client(names: Names) -> Client {
    let made = rcgen::generate_simple_self_signed(["agent.example".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    Client::new(names, Some(file.path()), Duration::from_mins(1)).unwrap()
}

/// Places for two readings at the same time, and one of them.
fn places() -> Arc<Places> {
    let mut limits = Sources::default().load(Need::Everything).unwrap().config.resolvers.places;
    limits.per_host = 2;
    Places::new("web", &limits, Arc::new(Metrics::new().unwrap()))
}

fn enter(places: &Arc<Places>) -> Option<Arc<Place>> {
    let account = Account { peer: Peer::of_address(HERE), known: false };
    places.enter(&account, Of::Host(&config::Host::Name("agent.example".to_owned()))).ok()
}

fn place() -> Arc<Place> {
    enter(&places()).unwrap()
}

/// Asks for a name that has these addresses at its successive look-ups; the last ones repeat.
/// Returns the outcome, and how often the name was looked up.
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
    let client = client(Names::new(Arc::new(look_up), may_dial));
    let url = Url::parse(&format!("https://agent.example:{port}/")).unwrap();
    let result = client.get(&url, "*/*", &place()).await;
    (result, asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn an_answer_that_changes_leads_nowhere_else() {
    let listener = Listener::start().await;
    let answers: [&[_]; 2] = [&[HERE], &[FORBIDDEN]];
    let (result, asked) = ask(listener.port, &answers, |address| address != FORBIDDEN).await;
    // The first attempt dials the addresses that it has checked, without another look-up. The
    // second attempt looks up and checks again.
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
    // As often as for a name that does not exist, so that the time of an answer reveals nothing.
    assert_eq!((result.unwrap_err(), asked), (Failure::Forbidden, 2));
    // Addresses need no look-up.
    let names = || {
        let look_up = |name: &str| panic!("{name} was looked up");
        Names::new(Arc::new(look_up), address::is_global_unicast)
    };
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1"] {
        let url = Url::parse(&format!("https://{host}:{}/", listener.port)).unwrap();
        let result = client(names()).get(&url, "*/*", &place()).await;
        assert_eq!(result.unwrap_err(), Failure::Forbidden, "{host}");
    }
    assert_eq!(listener.connections(), 0);
}

#[tokio::test]
async fn a_name_without_addresses_is_looked_up_twice() {
    let (result, asked) = ask(1, &[&[]], |_| true).await;
    assert_eq!((result.unwrap_err(), asked), (Failure::Connect("has no address"), 2));
}

/// A look-up cannot be interrupted, and keeps its place until it ends.
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
    let client = client(Names::new(Arc::new(look_up), |_| true));
    let url = Url::parse("https://agent.example/").unwrap();
    let places = places();
    let place = enter(&places).unwrap();
    let first = tokio::spawn(async move { client.get(&url, "*/*", &place).await });
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = enter(&places);
    assert!(second.is_some());
    assert!(enter(&places).is_none());
    // Without a sender, look-ups end at once.
    drop(end);
    while enter(&places).is_none() {
        tokio::task::yield_now().await;
    }
}

/// The addresses of a name are counted, and only counted ones are dialled.
#[tokio::test]
async fn a_name_is_dialled_at_eight_addresses() {
    let addresses: Vec<_> = (1..=20).map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 9, n))).collect();
    let look_up = {
        let addresses = addresses.clone();
        move |_: &str| Ok(addresses.iter().map(|&ip| SocketAddr::new(ip, 0)).collect())
    };
    let names = Names::new(Arc::new(look_up), |_| true);
    let dialled = names.addresses("agent.example", place()).await.unwrap();
    assert_eq!(dialled.iter().map(SocketAddr::ip).collect::<Vec<_>>(), addresses[..8]);
}
