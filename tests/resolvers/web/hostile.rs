//! Hosts that mean harm: none makes a resolver follow, unpack, believe, or wait.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{document, found, trusting, trusting_with, unreachable, unusable};
use crate::site::{Script, Site, Step, answer, json as json_answer, raw};
use crate::support::{Authority, did};

const SOON: Duration = Duration::from_millis(300);

/// The largest document, in bytes.
const LARGEST: usize = 64 * 1024;

/// What follows the host's name in why an answer is unusable.
async fn makes_unusable(script: impl Fn() -> Script + Send + Sync + 'static) -> String {
    let authority = Authority::new();
    let site = Site::start(&authority, move |_| script()).await;
    let why = unusable(&trusting(&authority), &site.did("")).await;
    assert_eq!(site.requests().len(), 1);
    why.trim_start_matches(&format!("localhost:{} ", site.port())).to_owned()
}

/// The same, of a host that counts as not reached.
async fn makes_unreachable(script: impl Fn() -> Script + Send + Sync + 'static) -> String {
    let authority = Authority::new();
    let site = Site::start(&authority, move |_| script()).await;
    let why = unreachable(&trusting(&authority), &site.did("")).await;
    // It may have been carried out: no request is sent twice.
    assert_eq!(site.requests().len(), 1);
    why.trim_start_matches(&format!("localhost:{} ", site.port())).to_owned()
}

/// The same, of a host that is given up after [`SOON`].
async fn is_given_up(script: impl Fn() -> Script + Send + Sync + 'static) {
    let authority = Authority::new();
    let site = Site::start(&authority, move |_| script()).await;
    let resolvers = trusting_with(&authority, |web| web.timeout = SOON);
    let why = unreachable(&resolvers, &site.did("")).await;
    assert_eq!(why, format!("localhost:{} does not answer within 0.3 s", site.port()));
    assert_eq!(site.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| match did.as_str().rsplit(':').next().unwrap() {
        status if status.starts_with('3') => raw(
            &format!("HTTP/1.1 {status} Moved\nLocation: /good/did.json\nContent-Length: 0"),
            "",
        ),
        _ => json_answer(&document(did)),
    })
    .await;
    let resolvers = trusting(&authority);
    for status in [300, 301, 302, 303, 304, 307, 308] {
        let why = unreachable(&resolvers, &site.did(&format!(":{status}"))).await;
        let host = format!("localhost:{}", site.port());
        assert_eq!(why, format!("{host} redirects ({status}): that is not followed"));
    }
    assert!(site.requests().iter().all(|head| !head.contains("good")));
    found(&resolvers, &site.did(":good")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_than_a_document_may_have() {
    let endless = || Step::SendForEver(vec![b' '; 8192], Duration::ZERO);
    let with_head = move |head: &str| {
        let mut script = raw(head, "");
        script.push(endless());
        script
    };
    for head in ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK\nContent-Length: 10000000000"] {
        let why = makes_unreachable(move || with_head(head)).await;
        assert_eq!(why, "answers with too many bytes", "{head}");
    }
    let chunks = || {
        let mut script = raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", "");
        script.push(Step::SendForEver(
            [b"2000\r\n", &[b' '; 8192][..], b"\r\n"].concat(),
            Duration::ZERO,
        ));
        script
    };
    assert_eq!(makes_unreachable(chunks).await, "answers with too many bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_document_is_read_and_none_larger() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        let size = if did.as_str().ends_with(":largest") { LARGEST } else { LARGEST + 1 };
        let body = document(did).to_string();
        let padding = " ".repeat(size - body.len());
        answer(200, body + &padding)
    })
    .await;
    let resolvers = trusting(&authority);
    found(&resolvers, &site.did(":largest")).await;
    let why = unreachable(&resolvers, &site.did(":larger")).await;
    assert_eq!(why, format!("localhost:{} answers with too many bytes", site.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_host_is_given_up_wherever_it_is_slow() {
    let never = || Step::Wait(Arc::new(Semaphore::new(0)));
    let trickle = |byte: u8| Step::SendForEver(vec![byte], Duration::from_millis(10));
    is_given_up(move || vec![never()]).await;
    is_given_up(move || vec![Step::Send(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), trickle(b'x')]).await;
    is_given_up(move || {
        let mut script = raw("HTTP/1.1 200 OK\nContent-Length: 60000", "{");
        script.push(trickle(b' '));
        script
    })
    .await;
    is_given_up(move || {
        let mut script = raw("HTTP/1.1 200 OK\nContent-Length: 60000", "{");
        script.push(never());
        script
    })
    .await;
}

/// It takes the connection, and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_silent_on_tls_is_given_up() {
    let authority = Authority::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let resolvers = trusting_with(&authority, |web| web.timeout = SOON);
    let did = did(&format!("did:web:localhost%3A{port}"));
    let why = unreachable(&resolvers, &did).await;
    assert_eq!(why, format!("localhost:{port} does not answer within 0.3 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_document_of_the_did_is_not_believed() {
    let not_json = "answers with what is not JSON";
    let html = "<!doctype html><title>Welcome</title>";
    assert_eq!(makes_unreachable(move || answer(200, html)).await, not_json);
    assert_eq!(makes_unreachable(|| answer(200, "")).await, not_json);
    assert_eq!(makes_unreachable(|| answer(200, b"{\"id\":\"\xff\"}")).await, not_json);
    assert_eq!(makes_unreachable(|| answer(200, "{\"id\": 1} {}")).await, not_json);
    assert_eq!(makes_unreachable(|| answer(200, "[".repeat(LARGEST))).await, not_json);
    let mine = json!({"id": "did:web:mallory.example"});
    let why = makes_unusable(move || json_answer(&mine)).await;
    assert_eq!(why, "the document's id is not the DID");
    for value in [json!([]), json!({}), json!({"id": 1}), json!("did:web:localhost"), Value::Null] {
        let why = makes_unusable(move || json_answer(&value)).await;
        assert_eq!(why, "the document is no JSON object with an id");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_a_lie_spoils_the_answer() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        let body = document(did).to_string();
        let length = match did.as_str().rsplit(':').next() {
            Some("short") => body.len() - 1,
            _ => body.len() + 1,
        };
        raw(&format!("HTTP/1.1 200 OK\nContent-Length: {length}"), body)
    })
    .await;
    let (resolvers, host) = (trusting(&authority), format!("localhost:{}", site.port()));
    let why = unreachable(&resolvers, &site.did(":short")).await;
    assert_eq!(why, format!("{host} answers with what is not JSON"));
    let why = unreachable(&resolvers, &site.did(":long")).await;
    assert_eq!(why, format!("{host} broke off its answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_none() {
    let broken = "broke off its answer";
    assert_eq!(makes_unreachable(Vec::new).await, broken);
    assert_eq!(
        makes_unreachable(|| vec![Step::Send(b"HTTP/1.1 200 OK\r\nConte".to_vec())]).await,
        broken
    );
    assert_eq!(
        makes_unreachable(|| raw("HTTP/1.1 200 OK\nContent-Length: 100", "{\"id\":")).await,
        broken
    );
    let chunk = || raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", "7\r\n{\"id\":");
    assert_eq!(makes_unreachable(chunk).await, broken);
    assert_eq!(makes_unreachable(|| raw("SSH-2.0-OpenSSH_9.9", "")).await, broken);
    let many = || raw(&format!("HTTP/1.1 200 OK{}", "\nX: y".repeat(10_000)), "{}");
    assert_eq!(makes_unreachable(many).await, broken);
}

/// 10 MiB of zeros as gzip packs them, which nobody has asked for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_unpacked() {
    let packed = || {
        // RFC 1951: one block of fixed codes that repeats a zero 258 bytes at a time. It is
        // enough that it looks like gzip, since it is never looked into.
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xec, 0xc1, 1, 1], &[0; 10_000]].concat()
    };
    let marked = move |name: &str| {
        let body = packed();
        let length = body.len();
        raw(&format!("HTTP/1.1 200 OK\nContent-Encoding: {name}\nContent-Length: {length}"), body)
    };
    for name in ["gzip", "br", "deflate", "zstd", "identity, gzip"] {
        let why = makes_unreachable(move || marked(name)).await;
        assert_eq!(why, "answers with a Content-Encoding, which was not asked for", "{name}");
    }
    assert_eq!(
        makes_unreachable(move || answer(200, packed())).await,
        "answers with what is not JSON"
    );
}
