//! How much is asked at the same time, how often, and when a host is left alone.

use std::sync::Arc;

use onceguard::domain::Did;
use onceguard::resolvers::{Account, Full, Resolvers, Unreachable};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{document, found, trusting, trusting_with_places, unreachable};
use crate::site::{Site, Step, answer, json, within_deadline};
use crate::support::{Authority, a_peer, an_account, did};

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

/// Whoever asks: strangers may be many, and the ports of a host even more.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_asked_for_four_new_dids_at_once_whatever_its_ports() {
    let (authority, until) = (Authority::new(), Arc::new(Semaphore::new(0)));
    let sites = [held(&authority, &until).await, held(&authority, &until).await];
    let other = Site::start(&authority, |did| json(&document(&of_address(did)))).await;
    let resolvers = trusting(&authority);
    let readings = reading(&resolvers, sites.iter().flat_map(|site| agents(site, 2)));
    for site in &sites {
        site.wait_for_requests(2).await;
    }
    for peer in 0..10 {
        let account = Account { peer: a_peer(peer), known: false };
        let why = resolvers.resolve(&sites[0].did(":fifth"), account).await.unwrap_err();
        assert_eq!(why, Unreachable::Full(Full::Host));
    }
    assert_eq!(sites[0].connections(), 2);
    // Another host is asked, and this one for DIDs that are known.
    found(&resolvers, &of_address(&other.did(""))).await;
    let known = Account { known: true, ..an_account() };
    let known = tokio::spawn({
        let (resolvers, did) = (resolvers.clone(), sites[0].did(":known"));
        async move { resolvers.resolve(&did, known).await }
    });
    sites[0].wait_for_requests(3).await;
    until.add_permits(6);
    within_deadline(readings.join_all()).await;
    within_deadline(known).await.unwrap().unwrap();
    // What was refused is no failure of the host.
    found(&resolvers, &sites[0].did(":fifth")).await;
}

/// A stranger may have any number of names, which all have one address.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_part_whatever_its_names() {
    let (authority, until) = (Authority::new(), Arc::new(Semaphore::new(0)));
    let site = held(&authority, &until).await;
    let resolvers = trusting_with_places(&authority, |places| places.per_address = 4);
    let readings = reading(&resolvers, agents(&site, 4));
    site.wait_for_requests(4).await;
    let why = resolvers.resolve(&of_address(&site.did(":fifth")), an_account()).await;
    assert_eq!(why.unwrap_err(), Unreachable::Full(Full::Address));
    assert_eq!(site.connections(), 4);
    until.add_permits(5);
    within_deadline(readings.join_all()).await;
    found(&resolvers, &site.did(":fifth")).await;
}

/// The same DID, by the address that `localhost` has.
fn of_address(named: &Did) -> Did {
    did(&named.as_str().replace("localhost", "127.0.0.1"))
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
    let found =
        async { while resolvers.resolve(&site.did(":fifth"), an_account()).await.is_err() {} };
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
    // What strangers find to fail does not keep the host from being asked for known DIDs.
    let known = Account { known: true, ..an_account() };
    let why = resolvers.resolve(&site.did(""), known).await.unwrap_err();
    assert_eq!(why.to_string(), format!("{host} answers 500"));
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
        unreachable(&resolvers, &did).await;
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
