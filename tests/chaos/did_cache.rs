//! An instance's cache of DIDs follows the changes of other instances. While it cannot hear of
//! changes, the instance asks the database each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::domain::{Did, NewDid, PublicKey};
use onceguard::metrics::Metrics;
use onceguard::services::{Asker, Dids, Lookup};
use onceguard::storage::Store;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use crate::instances::Pair;
use crate::services::{dids_with, metrics};
use crate::support::Database::Postgres;
use crate::support::{
    ChaosProxy, Home, RawSql, a_peer, a_public_key, an_event, database_url, did, store_at, unique,
    wait_for,
};

/// How often a key changes while others read it.
const CHANGES: u8 = 150;

/// A DID that no resolver reads: there is only the stored key.
fn homeless() -> Did {
    did(&format!("did:example:{}", unique()))
}

async fn put(store: &Store, did: &Did, key: u8) {
    let new = NewDid { did: did.clone(), key: a_public_key(key), owner_address: None };
    store.put_did(new, an_event("onceguard.did.stored", &"x")).await.unwrap();
}

async fn hang_up(raw: &RawSql) {
    let listening = "FROM pg_stat_activity \
                     WHERE query = 'LISTEN dids' AND datname = current_database()";
    raw.number(&format!("count(pg_terminate_backend(pid)) {listening}")).await;
}

/// The DIDs of an instance, which follow the changes that its store reports.
struct Instance {
    dids: Dids,
    metrics: Arc<Metrics>,
    watching: JoinHandle<()>,
}

impl Instance {
    fn start(store: &Store) -> Self {
        let metrics = metrics();
        let dids = dids_with(store, metrics.clone());
        let watching = dids.watch(store.watch_dids());
        Self { dids, metrics, watching }
    }

    async fn hears(&self, yes: bool) {
        wait_for("changes to be heard, or not", async || {
            (self.metrics.did_changes_seen.get() == i64::from(yes)).then_some(())
        })
        .await;
    }

    async fn key(&self, did: &Did) -> PublicKey {
        match self.dids.get(did, None, Asker::Trusted(a_peer(1))).await.unwrap() {
            Lookup::Found(found) => found.key.clone().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Reads the DID until the answer comes from the cache.
    async fn caches(&self, did: &Did, key: u8) {
        let hits = self.metrics.did_cache_hits.get();
        wait_for("the cache to be used", async || {
            assert_eq!(self.key(did).await, a_public_key(key));
            (self.metrics.did_cache_hits.get() > hits).then_some(())
        })
        .await;
    }

    async fn is_revoked(&self, did: &Did) -> bool {
        match self.dids.get(did, None, Asker::Trusted(a_peer(1))).await.unwrap() {
            Lookup::Found(found) => found.is_revoked(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_through_one_instance_reaches_the_other() {
    // Far longer than this test waits for anything.
    let pair = Pair::start(Home::on(Postgres).await.set("dids.cache_ttl_seconds", 86_400)).await;
    let [here, there] = &pair.callers;
    let path = format!("/v1/dids/{}", homeless());
    let key = |number| STANDARD.encode(a_public_key(number).as_bytes());
    for number in 1..6 {
        let body = json!({ "key_type": "Ed25519", "public_key": key(number) });
        here.put(&path, &body).await.is(if number == 1 { 201 } else { 200 });
        wait_for("the other instance to have the new key", async || {
            (there.get(&path).await.is(200)["public_key"] == key(number)).then_some(())
        })
        .await;
    }
    here.post(&format!("{path}/revoke"), &json!({})).await.is(200);
    wait_for("the other instance to have the revocation", async || {
        (there.get(&path).await.is(200)["revoked"] == true).then_some(())
    })
    .await;

    let [here, there] = pair.ops();
    let revocations = "onceguard_did_revocation_duration_seconds_count";
    wait_for("the revocation's time", async || {
        (there.metric(revocations, &["origin=\"elsewhere\""]).await == 1.0).then_some(())
    })
    .await;
    assert_eq!(there.metric(revocations, &[]).await, 1.0);
    assert_eq!(here.metric(revocations, &["origin=\"here\""]).await, 1.0);
    assert_eq!(here.metric(revocations, &[]).await, 1.0);
    for ops in [here, there] {
        assert_eq!(ops.metric("onceguard_did_changes_seen", &[]).await, 1.0);
    }
}

/// Its connections to the database work, but the one that it listens on is lost and cannot be
/// opened again.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_hears_nothing_trusts_nothing_that_it_cached() {
    let direct = Postgres.store().await;
    let proxy = ChaosProxy::in_front_of(&direct.postgres_url()).await;
    let far = store_at(&database_url(&proxy.url(&direct.postgres_url()))).await;
    let (changed, revoked) = (homeless(), homeless());
    put(&direct, &changed, 1).await;
    put(&direct, &revoked, 1).await;
    let instance = Instance::start(&far);
    instance.hears(true).await;
    for did in [&changed, &revoked] {
        instance.caches(did, 1).await;
    }

    proxy.refuse(true);
    hang_up(direct.raw()).await;
    instance.hears(false).await;
    for number in 2..5 {
        put(&direct, &changed, number).await;
        assert_eq!(instance.key(&changed).await, a_public_key(number));
    }
    assert!(!instance.is_revoked(&revoked).await);
    direct.revoke_did(&revoked, an_event("onceguard.did.revoked", &revoked)).await.unwrap();
    assert!(instance.is_revoked(&revoked).await);

    proxy.refuse(false);
    instance.hears(true).await;
    assert_eq!(instance.key(&changed).await, a_public_key(4));
    put(&direct, &changed, 5).await;
    wait_for("the change to be heard", async || {
        (instance.key(&changed).await == a_public_key(5)).then_some(())
    })
    .await;
    instance.caches(&changed, 5).await;
}

/// A silent server or network answers no reads either. When it is back, nothing that was cached
/// before is used.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cached_before_a_silence_is_not_used_after_it() {
    let direct = Postgres.store().await;
    let proxy = ChaosProxy::in_front_of(&direct.postgres_url()).await;
    let far = store_at(&database_url(&proxy.url(&direct.postgres_url()))).await;
    let did = homeless();
    put(&direct, &did, 1).await;
    let instance = Instance::start(&far);
    instance.hears(true).await;
    instance.caches(&did, 1).await;

    proxy.freeze(true);
    instance.hears(false).await;
    put(&direct, &did, 2).await;
    proxy.freeze(false);
    instance.hears(true).await;
    assert_eq!(instance.key(&did).await, a_public_key(2));
}

/// Many tasks read while keys change and the listening connection is lost again and again. No task
/// ever sees an older key after a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_backwards() {
    let direct = Postgres.store().await;
    let other = direct.another().await;
    let instance = Arc::new(Instance::start(&other));
    let did = homeless();
    put(&direct, &did, 0).await;
    let (seen, over) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
    let keys: Arc<Vec<_>> = Arc::new((0..CHANGES).map(a_public_key).collect());
    let mut readers = JoinSet::new();
    for _ in 0..8 {
        let (instance, did) = (Arc::clone(&instance), did.clone());
        let (seen, over, keys) = (Arc::clone(&seen), Arc::clone(&over), Arc::clone(&keys));
        readers.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let before = seen.load(Ordering::SeqCst);
                let key = instance.key(&did).await;
                let number = keys.iter().position(|known| *known == key).unwrap();
                let number = u8::try_from(number).unwrap();
                assert!(number >= before, "{before} was seen, and then {number}");
                seen.fetch_max(number, Ordering::SeqCst);
                // A hit waits for nothing, and the other tasks need the processor, too.
                tokio::task::yield_now().await;
            }
        });
    }
    for number in 1..CHANGES {
        put(&direct, &did, number).await;
        if number % 10 == 0 {
            hang_up(direct.raw()).await;
        }
        if number % 4 == 0 {
            wait_for("the new key to be seen", async || {
                (seen.load(Ordering::SeqCst) == number).then_some(())
            })
            .await;
        }
    }
    over.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}
