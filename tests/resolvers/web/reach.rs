//! Which hosts are asked at all, and whom they have to be.

use std::process::Command;
use std::sync::Arc;

use onceguard::config::Host;
use onceguard::metrics::Metrics;
use onceguard::resolvers::Resolvers;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::{defaults, document, found, resolvers, trusting, trusting_with, unreachable, unusable};
use crate::site::{Site, json};
use crate::support::{Authority, certificate, did};

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_not_on_the_internet_are_not_dialled() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| json(&document(did))).await;
    let (port, far) =
        (site.port(), trusting_with(&authority, |web| web.allow_private_addresses = false));
    // That is no statement about the DID, nor about the name: see `names_are_not_told_apart`.
    let why = unreachable(&far, &site.did("")).await;
    assert_eq!(why, format!("localhost:{port} has no address that may be dialled"));
    for address in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "8.8.8.8"] {
        let did = did(&format!("did:web:{address}%3A{port}"));
        assert_eq!(unusable(&far, &did).await, "a did:web names no IP address");
    }
    assert!(!defaults().web.allow_private_addresses);
    assert_eq!(site.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_networks_may_be_allowed() {
    let authority = Authority::new();
    let site = Site::start(&authority, |at| {
        json(&document(&did(&at.as_str().replace("localhost", "127.0.0.1"))))
    })
    .await;
    let by_address = did(&format!("did:web:127.0.0.1%3A{}", site.port()));
    found(&trusting(&authority), &by_address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_hosts_are_asked() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| json(&document(did))).await;
    let allowing = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| Host::parse(host).unwrap()).collect();
        trusting_with(&authority, |web| web.allowed_hosts = hosts)
    };
    for hosts in [&["a.example"][..], &["host", "localhost.example", "127.0.0.1"]] {
        let why = unusable(&allowing(hosts), &site.did("")).await;
        assert_eq!(why, "localhost is not in resolvers.web.allowed_hosts");
    }
    assert_eq!(site.connections(), 0);
    found(&allowing(&["a.example", "LocalHost"]), &site.did("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_must_have_a_certificate_of_its_own() {
    let (authority, other) = (Authority::new(), Authority::new());
    let site = Site::start(&authority, |did| json(&document(did))).await;
    let refused =
        format!("localhost:{} has a certificate of no authority that is trusted", site.port());
    assert_eq!(unreachable(&trusting(&other), &site.did("")).await, refused);
    // The system's authorities, if there are any, know nothing of the test's.
    let mut config = defaults();
    config.web.allow_private_addresses = true;
    let why = unreachable(&resolvers(&config), &site.did("")).await;
    let none = "is not asked: the system has no authorities to trust";
    assert!(why == refused || why.ends_with(none), "{why}");

    let mut old = certificate(&["localhost"]);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let misnamed = certificate(&["localhost.example", "127.0.0.1"]);
    for (certificate, wrong) in [(old, "that has expired"), (misnamed, "for another name")] {
        let site = Site::start_with(&certificate, &authority, |did| json(&document(did))).await;
        let why = unreachable(&trusting(&authority), &site.did("")).await;
        assert_eq!(why, format!("localhost:{} has a certificate {wrong}", site.port()));
        // Another attempt could not end otherwise.
        assert_eq!((site.connections(), site.requests().len()), (1, 0));
    }
    assert_eq!(site.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_cannot_be_used_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("empty.pem"), "").unwrap();
    std::fs::write(file("prose.pem"), "not PEM").unwrap();
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(file("bad.pem"), bad).unwrap();
    for name in ["missing.pem", "empty.pem", "prose.pem", "bad.pem", ""] {
        let mut config = defaults();
        config.web.ca_file = Some(file(name));
        let metrics = Arc::new(Metrics::new().unwrap());
        let error = Resolvers::new(&config, metrics, Handle::current()).err().unwrap();
        assert_eq!(error.key, "resolvers.web.ca_file", "{name}");
        assert!(error.message.contains(name), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_is_not_reached() {
    let authority = Authority::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let did = did(&format!("did:web:localhost%3A{port}"));
    let why = unreachable(&trusting(&authority), &did).await;
    assert_eq!(why, format!("localhost:{port} refuses connections"));
}

/// Run once more with the environment of a proxy, which hears of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_no_proxy() {
    const NAMES: [&str; 3] = ["HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY"];
    if std::env::var_os(NAMES[0]).is_none() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", proxy.local_addr().unwrap());
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "web::reach::the_environment_names_no_proxy"]);
        for name in NAMES {
            again.env(name, &address).env(name.to_lowercase(), &address);
        }
        let again = tokio::task::spawn_blocking(move || again.output().unwrap());
        tokio::select! {
            output = again => {
                let output = output.unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && text.contains("1 passed"), "{text}");
            }
            _ = proxy.accept() => panic!("the proxy was asked"),
        }
        return;
    }
    let authority = Authority::new();
    let site = Site::start(&authority, |did| json(&document(did))).await;
    found(&trusting(&authority), &site.did("")).await;
}
