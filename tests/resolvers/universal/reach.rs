//! How the resolver is asked, for which DIDs, and when it is not.

use std::sync::Arc;
use std::time::Duration;

use onceguard::domain::Did;
use onceguard::resolvers::{Account, Answer, Full, Unreachable};
use rstest::rstest;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::stub::{Reply, Stub, answer, raw};
use super::{a_did, config_for, resolvers_at, resolvers_with, unreachable};
use crate::support::{a_peer, an_account, did};

fn not_found() -> Reply {
    answer(404, "text/plain", "")
}

#[tokio::test]
async fn the_did_is_one_segment_below_the_url() {
    let stub = Stub::start(not_found()).await;
    let authority = format!("127.0.0.1:{}", stub.port());
    for (base, id, path) in [
        ("", "ion:Ei-_.", "/1.0/identifiers/did%3Aion%3AEi-_."),
        ("/", "ion:a", "/1.0/identifiers/did%3Aion%3Aa"),
        ("/resolver", "ion:a", "/resolver/1.0/identifiers/did%3Aion%3Aa"),
        ("/resolver/?key=1", "ion:a", "/resolver/1.0/identifiers/did%3Aion%3Aa?key=1"),
        // What is encoded in the DID is encoded once more: the resolver decodes once.
        ("", "x:a%2F..%3Ab", "/1.0/identifiers/did%3Ax%3Aa%252F..%253Ab"),
    ] {
        let resolvers = resolvers_with(&config_for(&format!("http://{authority}{base}")));
        let read = resolvers.resolve(&did(&format!("did:{id}")), an_account()).await.unwrap();
        assert_eq!(read.answer, Answer::NotFound);
        let request = stub.requests().pop().unwrap();
        assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains("\r\naccept: application/did-resolution, "), "{request}");
        assert!(request.contains("profile=\"https://w3id.org/did-resolution\""), "{request}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_told() {
    let stub = Stub::start(answer(401, "text/plain", "")).await;
    let config = config_for(&format!("http://agent:SECRET@127.0.0.1:{}/?key=SECRET", stub.port()));
    let resolvers = resolvers_with(&config);
    let why = unreachable(&resolvers).await;
    assert!(!why.contains("SECRET"), "{why}");
    let request = stub.requests().pop().unwrap();
    assert!(request.contains("\r\nauthorization: Basic YWdlbnQ6U0VDUkVU\r\n"), "{request}");
    assert!(request.contains("?key=SECRET "), "{request}");
    drop(stub);
    let why = unreachable(&resolvers).await;
    assert!(why.contains("cannot be connected to"), "{why}");
    assert!(!why.contains("SECRET"), "{why}");
    assert!(!format!("{config:?}").contains("SECRET"), "{config:?}");
}

#[tokio::test]
async fn it_reads_what_no_other_resolver_does() {
    let stub = Stub::start(not_found()).await;
    let mut config = config_for(&format!("http://127.0.0.1:{}", stub.port()));
    let home = |config: &_, text| resolvers_with(config).home(&did(text)).map(|home| home.source);
    assert_eq!(home(&config, "did:ion:a"), Some("universal"));
    assert_eq!(home(&config, "did:web:a.example"), Some("web"));
    assert_eq!(home(&config, "did:key:z6Mk"), None);
    config.web.enabled = false;
    assert_eq!(home(&config, "did:web:a.example"), Some("universal"));

    config.universal.as_mut().unwrap().methods = vec!["ion".to_owned(), "key".to_owned()];
    assert_eq!(home(&config, "did:ion:a"), Some("universal"));
    assert_eq!(home(&config, "did:ebsi:a"), None);
    assert_eq!(home(&config, "did:web:a.example"), None);
    assert_eq!(home(&config, "did:key:z6Mk"), None);
    let unread =
        resolvers_with(&config).resolve(&did("did:ebsi:a"), an_account()).await.unwrap_err();
    assert_eq!(unread.to_string(), "no resolver reads did:ebsi");
    assert_eq!(stub.connections(), 0);
}

#[tokio::test]
async fn a_resolver_that_is_silent_is_given_up() {
    let stub = Stub::start(Reply::Hang).await;
    let mut config = config_for(&format!("http://127.0.0.1:{}", stub.port()));
    config.universal.as_mut().unwrap().timeout = Duration::from_secs(1);
    let why = unreachable(&resolvers_with(&config)).await;
    assert_eq!(why, "the Universal Resolver does not answer within 1 s");
}

#[tokio::test]
async fn a_connection_is_tried_twice() {
    let stub = Stub::start(Reply::HangUp).await;
    let config = config_for(&format!("https://127.0.0.1:{}", stub.port()));
    let why = unreachable(&resolvers_with(&config)).await;
    assert!(why.starts_with("the Universal Resolver cannot be connected to: "), "{why}");
    assert_eq!(stub.connections(), 2);
}

#[rstest]
#[case(answer(503, "text/plain", ""))]
#[case(raw("SSH-2.0-OpenSSH_9.7", ""))]
#[tokio::test]
async fn an_answer_is_not_asked_for_twice(#[case] reply: Reply) {
    let stub = Stub::start(reply).await;
    unreachable(&resolvers_at(&stub)).await;
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn a_resolver_that_fails_is_left_alone() {
    let stub = Stub::start(answer(503, "text/plain", "")).await;
    let resolvers = resolvers_at(&stub);
    for _ in 0..6 {
        let why = unreachable(&resolvers).await;
        assert!(why.contains("HTTP status 503"), "{why}");
    }
    let why = unreachable(&resolvers).await;
    assert_eq!(why, "the Universal Resolver is left alone, having failed often");
    assert_eq!(stub.requests().len(), 6);
}

/// A stranger who asks for DIDs of a broken method does not have all others left alone.
#[tokio::test]
async fn what_may_be_one_dids_doing_is_no_failure_of_the_resolver() {
    let stub = Stub::start(answer(500, "text/plain", "")).await;
    let resolvers = resolvers_at(&stub);
    for _ in 0..20 {
        let why = unreachable(&resolvers).await;
        assert!(why.contains("HTTP status 500"), "{why}");
    }
    assert_eq!(stub.requests().len(), 20);
}

/// However many peers ask, one method leaves places to the others, and new DIDs to known ones.
#[tokio::test]
async fn so_many_dids_of_a_method_are_read_at_once_and_no_more() {
    let stub = Stub::start(Reply::Hang).await;
    let resolvers = Arc::new(resolvers_at(&stub));
    let mut readings = JoinSet::new();
    let mut read = |did: Did, account: Account| {
        let resolvers = Arc::clone(&resolvers);
        readings.spawn(async move { resolvers.resolve(&did, account).await });
    };
    for peer in 0..32 {
        read(a_did(), Account { peer: a_peer(peer), known: false });
    }
    stub.wait_for_requests(32).await;
    let refused = |did: Did, account: Account| {
        let resolvers = Arc::clone(&resolvers);
        async move { resolvers.resolve(&did, account).await.unwrap_err() }
    };
    let of_other = |peer| Account { peer: a_peer(peer), known: false };
    assert_eq!(refused(a_did(), of_other(99)).await, Unreachable::Full(Full::Method));
    for peer in 0..16 {
        read(did("did:other:a"), of_other(peer));
    }
    stub.wait_for_requests(48).await;
    assert_eq!(refused(did("did:third:a"), of_other(99)).await, Unreachable::Full(Full::New));
    read(did("did:third:a"), Account { peer: a_peer(99), known: true });
    stub.wait_for_requests(49).await;
}

/// Nothing listens: the operating system refuses.
#[tokio::test]
async fn a_resolver_may_be_down() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let why = unreachable(&resolvers_with(&config_for(&format!("http://127.0.0.1:{port}")))).await;
    assert!(why.starts_with("the Universal Resolver cannot be connected to: "), "{why}");
}
