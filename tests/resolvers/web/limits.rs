//! How much is asked at the same time, how often, and when a host is left alone.

use std::sync::Arc;

use onceguard::domain::Did;
use onceguard::resolvers::Resolvers;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{document, found, trusting, unreachable, unusable};
use crate::site::{Authority, Site, Step, answer, json, within_deadline};

/// Answers when it is told to.
async fn held(authority: &Authority, until: &Arc<Semaphore>) -> Site {
    let until = Arc::clone(until);
    Site::start(authority, move |did| {
        let mut script = vec![Step::Wait(Arc::clone(&until))];
        script.extend(json(&document(did)));
        script
    })
    .await
}

/// Reads DIDs that must be found in the end.
fn reading(resolvers: &Resolvers, dids: impl IntoIterator<Item = Did>) -> JoinSet<()> {
    dids.into_iter()
        .map(|did| {
            let resolvers = resolvers.clone();
            async move { found(&resolvers, &did).await }
        })
        .collect()
}

fn agents(site: &Site, count: usize) -> Vec<Did> {
    (0..count).map(|number| site.did(&format!(":agents:{number}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_asked_for_four_dids_at_once() {
    let (authority, until) = (Authority::new(), Arc::new(Semaphore::new(0)));
    let site = held(&authority, &until).await;
    let other = Site::start(&authority, |did| json(&document(did))).await;
    let resolvers = trusting(&authority);
    let readings = reading(&resolvers, agents(&site, 4));
    site.wait_for_requests(4).await;
    for _ in 0..10 {
        let why = unreachable(&resolvers, &site.did(":fifth")).await;
        assert_eq!(
            why,
            format!("localhost:{} is not asked while 4 of its DIDs are being read", site.port())
        );
    }
    assert_eq!(site.connections(), 4);
    found(&resolvers, &other.did("")).await;
    until.add_permits(5);
    within_deadline(readings.join_all()).await;
    // What was refused is no failure of the host.
    found(&resolvers, &site.did(":fifth")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_dids_are_read_at_once() {
    let (authority, until) = (Authority::new(), Arc::new(Semaphore::new(0)));
    let resolvers = trusting(&authority);
    let mut sites = Vec::new();
    for _ in 0..17 {
        sites.push(held(&authority, &until).await);
    }
    let last = sites.pop().unwrap();
    let readings = reading(&resolvers, sites.iter().flat_map(|site| agents(site, 4)));
    for site in &sites {
        site.wait_for_requests(4).await;
    }
    let why = unreachable(&resolvers, &last.did("")).await;
    assert_eq!(
        why,
        format!("localhost:{} is not asked while 64 did:web are being read", last.port())
    );
    assert_eq!(last.connections(), 0);
    until.add_permits(65);
    within_deadline(readings.join_all()).await;
    found(&resolvers, &last.did("")).await;
}

/// Whoever stops waiting does not stop the reading, nor keep its place afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_free_when_the_reading_ends() {
    let (authority, until) = (Authority::new(), Arc::new(Semaphore::new(0)));
    let site = held(&authority, &until).await;
    let resolvers = trusting(&authority);
    let mut readings = reading(&resolvers, agents(&site, 4));
    site.wait_for_requests(4).await;
    readings.shutdown().await;
    unreachable(&resolvers, &site.did(":fifth")).await;
    until.add_permits(5);
    let found = async { while resolvers.resolve(&site.did(":fifth")).await.is_err() {} };
    within_deadline(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_is_left_alone() {
    let authority = Authority::new();
    let site = Site::start(&authority, |_| answer(500, "")).await;
    let other = Site::start(&authority, |did| json(&document(did))).await;
    let resolvers = trusting(&authority);
    let host = format!("localhost:{}", site.port());
    for did in agents(&site, 6) {
        assert_eq!(unreachable(&resolvers, &did).await, format!("{host} answers 500"));
    }
    let why = unreachable(&resolvers, &site.did("")).await;
    assert_eq!(why, format!("{host} did not answer lately, and is not asked for now"));
    assert_eq!(site.connections(), 6);
    found(&resolvers, &other.did("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_be_used_are_no_failures() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| {
        if did.as_str().contains("agents") { answer(401, "") } else { json(&document(did)) }
    })
    .await;
    let resolvers = trusting(&authority);
    for did in agents(&site, 20) {
        unusable(&resolvers, &did).await;
    }
    found(&resolvers, &site.did("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_tried_twice() {
    let authority = Authority::new();
    let site = Site::start(&authority, |did| json(&document(did))).await;
    let resolvers = trusting(&authority);
    site.refuse(1);
    found(&resolvers, &site.did("")).await;
    assert_eq!(site.connections(), 2);
    site.refuse(2);
    let why = unreachable(&resolvers, &site.did("")).await;
    assert_eq!(why, format!("localhost:{} closes connections at once", site.port()));
    assert_eq!(site.connections(), 4);
}
