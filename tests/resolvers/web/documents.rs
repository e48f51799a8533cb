//! Where documents are, how they are asked for, and what a host may say instead of one.

use std::sync::Arc;

use onceguard::resolvers::Answer;
use tokio::sync::Semaphore;

use super::{answer as answer_of, document, found, trusting, unreachable, unusable, with_keys};
use crate::site::{Site, Step, answer, json, raw};
use crate::support::{Authority, did};

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_read_from_where_its_did_says() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        // The connection stays open, and a second request on it would get no answer.
        let mut script = json(&document(did));
        script.push(Step::Wait(Arc::new(Semaphore::new(0))));
        script
    })
    .await;
    let resolvers = trusting(&authority);
    for path in ["", ":agents", ":agents:Alice", ":a%20b:c"] {
        found(&resolvers, &site.did(path)).await;
    }
    let lines: Vec<_> =
        site.requests().iter().map(|head| head.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "GET /.well-known/did.json HTTP/1.1",
            "GET /agents/did.json HTTP/1.1",
            "GET /agents/Alice/did.json HTTP/1.1",
            "GET /a%20b/c/did.json HTTP/1.1",
        ]
    );
    // None of its connections is kept.
    assert_eq!(site.connections(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_learns_nothing_but_what_is_asked() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        let body = document(did).to_string();
        raw(
            &format!(
                "HTTP/1.1 200 OK\nSet-Cookie: who=you; Path=/\nContent-Length: {}",
                body.len()
            ),
            body,
        )
    })
    .await;
    let resolvers = trusting(&authority);
    for _ in 0..2 {
        found(&resolvers, &site.did("")).await;
    }
    let mut expected = vec![
        "get /.well-known/did.json http/1.1".to_owned(),
        "accept: application/did+json, application/did+ld+json, application/json".to_owned(),
        format!("host: localhost:{}", site.port()),
        format!("user-agent: onceguard/{}", env!("CARGO_PKG_VERSION")),
    ];
    expected.sort();
    for head in site.requests() {
        let mut lines: Vec<_> = head.trim_end().lines().map(str::to_ascii_lowercase).collect();
        lines.sort();
        assert_eq!(lines, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_may_come_without_its_length() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        let body = document(did).to_string();
        match did.as_str().rsplit(':').next() {
            Some("chunked") => raw(
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked",
                format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            ),
            _ => raw("HTTP/1.1 200 OK", body),
        }
    })
    .await;
    let resolvers = trusting(&authority);
    for path in [":chunked", ":closed"] {
        found(&resolvers, &site.did(path)).await;
    }
}

/// A domain name has no case, a DID has: the document says which spelling is its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_case_of_the_host_is_the_document_s() {
    let authority = Authority::new();
    let site = Site::start(&authority, |quiet| {
        json(&document(&did(&quiet.as_str().replace("localhost", "LocalHost"))))
    })
    .await;
    let resolvers = trusting(&authority);
    let at = |name: &str| did(&site.did("").as_str().replace("localhost", name));
    found(&resolvers, &at("LocalHost")).await;
    for name in ["localhost", "LOCALHOST"] {
        let why = unusable(&resolvers, &at(name)).await;
        assert_eq!(why, "the document's id is not the DID", "{name}");
    }
    assert_eq!(site.connections(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_what_became_of_a_did() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        let status = did.as_str().rsplit(':').next().unwrap().parse().unwrap();
        // Whatever comes with a status is not looked at.
        answer(status, document(did).to_string())
    })
    .await;
    let resolvers = trusting(&authority);
    let at = |status: u16| site.did(&format!(":{status}"));
    let host = format!("localhost:{}", site.port());
    found(&resolvers, &at(200)).await;
    assert_eq!(answer_of(&resolvers, &at(404)).await, Answer::NotFound);
    assert_eq!(answer_of(&resolvers, &at(410)).await, Answer::Deactivated { finalized_at: None });
    for status in [429, 500, 502, 503, 504] {
        let why = unreachable(&resolvers, &at(status)).await;
        assert_eq!(why, format!("{host} answers {status}"));
        // One failure after another would be enough for the host to be left alone.
        found(&resolvers, &at(200)).await;
    }
    // Nor does any other status say anything of the DID.
    for status in [201, 203, 206, 400, 401, 403, 405, 418, 451] {
        assert_eq!(unreachable(&resolvers, &at(status)).await, format!("{host} answers {status}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_keys_of_a_document_are_read() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        let count = did.as_str().rsplit(':').next().unwrap().parse().unwrap();
        json(&with_keys(did, count))
    })
    .await;
    let resolvers = trusting(&authority);
    found(&resolvers, &site.did(":20")).await;
    match answer_of(&resolvers, &site.did(":21")).await {
        Answer::Document { document, .. } => {
            assert_eq!((document.methods().len(), document.unusable().len()), (20, 1));
        }
        other => panic!("{other:?}"),
    }
}
