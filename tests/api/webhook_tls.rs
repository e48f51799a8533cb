//! Sending events over TLS: whose certificates are trusted, and what is said of the others.

use rcgen::CertificateParams;
use rstest::rstest;
use serde_json::Value;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Authority, Receiver, TestApp, certificate};
use crate::webhook_sending::{delivery, got, publish_one, webhook};

/// A service that sends to this machine, and trusts this authority.
async fn trusting(on: Database, authority: &Authority) -> TestApp {
    let file = authority.file();
    let app = TestApp::start_with(on, |config| {
        config.webhooks.allow_private_addresses = true;
        config.webhooks.ca_file = Some(file);
    });
    app.await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_over_tls(#[values(Sqlite, Postgres)] on: Database) {
    let authority = Authority::new();
    let app = trusting(on, &authority).await;
    let receiver =
        Receiver::start_tls(authority.acceptor(&certificate(&["localhost", "127.0.0.1"]))).await;
    let (by_name, _) = webhook(&app, &receiver.url_by_name("/name"), "v1").await;
    let (by_address, _) = webhook(&app, &receiver.url("/address"), "v1").await;
    let id = publish_one(&app).await;
    let got = got(&receiver, 2).await;
    let mut heads: Vec<_> = got.iter().map(|got| got.head.as_str()).collect();
    heads.sort_unstable();
    assert_eq!(heads, ["POST /address HTTP/1.1", "POST /name HTTP/1.1"]);
    assert!(got.iter().all(|got| got.id() == id));
    for path in [by_name, by_address] {
        let delivered = delivery(&app, &path, tried).await;
        assert_eq!(delivered["state"], "delivered", "{delivered}");
    }
}

fn tried(delivery: &Value) -> bool {
    !delivery["last_attempt_at"].is_null()
}

fn expired() -> CertificateParams {
    let mut expired = certificate(&["localhost"]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    expired
}

/// None of these receivers gets a byte of an event.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_must_have_a_certificate_of_its_own(#[values(Sqlite, Postgres)] on: Database) {
    let (authority, other) = (Authority::new(), Authority::new());
    let app = trusting(on, &authority).await;
    let own = certificate(&["localhost"]);
    let misnamed = certificate(&["receiver.example", "127.0.0.1"]);
    for (acceptor, why) in [
        (other.acceptor(&own), "has a certificate of no authority that is trusted"),
        (authority.acceptor(&expired()), "has a certificate that has expired"),
        (authority.acceptor(&misnamed), "has a certificate for another name"),
    ] {
        let receiver = Receiver::start_tls(acceptor).await;
        let (path, _) = webhook(&app, &receiver.url_by_name("/"), "v1").await;
        publish_one(&app).await;
        let failed = delivery(&app, &path, tried).await;
        assert_eq!((&failed["state"], &failed["last_status"]), (&"pending".into(), &Value::Null));
        assert_eq!(failed["last_error"], why);
        assert_eq!(receiver.count(), 0);
        app.delete(&path).await.is(204);
    }
}

/// What a URL leads to is checked when it is dialled, and not only when a webhook is made.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_not_dialled_where_that_is_not_allowed(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let authority = Authority::new();
    let mut app = trusting(on, &authority).await;
    let receiver =
        Receiver::start_tls(authority.acceptor(&certificate(&["localhost", "127.0.0.1"]))).await;
    let (by_name, _) = webhook(&app, &receiver.url_by_name("/name"), "v1").await;
    let (by_address, _) = webhook(&app, &receiver.url("/address"), "v1").await;
    app.restart_with(|config| config.webhooks.allow_private_addresses = false).await;
    publish_one(&app).await;
    for path in [by_name, by_address] {
        let failed = delivery(&app, &path, tried).await;
        assert_eq!(failed["state"], "pending");
        assert_eq!(failed["last_error"], "has no address that may be dialled");
    }
    assert_eq!(receiver.count(), 0);
}
