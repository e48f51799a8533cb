//! A look-up of a DID in a full cache, beside a look-up in a bare moka cache with as many entries.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use futures_util::FutureExt as _;
use moka::future::Cache;
use onceguard::domain::{Did, KeyType, Peer};
use onceguard::resolvers::{Resolvers, did_key};
use onceguard::services::{Asker, Dids, Lookup};
use onceguard::signatures::SigningKey;

use crate::Base;

const ENTRIES: usize = 100_000;
/// What it asks for stays in the cache.
const ASKER: Asker = Asker::Trusted(Peer::Network(IpAddr::V4(Ipv4Addr::LOCALHOST)));

static ALL: LazyLock<Vec<Did>> = LazyLock::new(|| {
    let did = |_| {
        let secret = std::array::from_fn(|_| fastrand::u8(..));
        let key = SigningKey::from_bytes(KeyType::Ed25519, &secret).unwrap();
        did_key::encode(key.public_key()).unwrap()
    };
    (0..ENTRIES).map(did).collect()
});

fn any() -> &'static Did {
    &ALL[fastrand::usize(..ENTRIES)]
}

#[divan::bench(sample_size = 1000)]
fn cached(bencher: Bencher<'_, '_>) {
    let base = Base::new();
    let dids = base.runtime.block_on(async {
        let handle = base.runtime.handle().clone();
        let resolvers =
            Resolvers::new(&base.config.resolvers, base.metrics.clone(), handle).unwrap();
        let (store, clock) = (base.store.clone(), base.clock.clone());
        let dids = Dids::new(store, resolvers, &base.config.dids, clock, base.metrics.clone());
        for did in ALL.iter() {
            assert!(matches!(dids.get(did, None, ASKER).await, Ok(Lookup::Found(_))));
        }
        dids
    });
    // A cached DID is there at once.
    bencher.with_inputs(any).bench_values(|did| dids.get(did, None, ASKER).now_or_never().unwrap());
}

#[divan::bench(sample_size = 1000)]
fn bare_moka(bencher: Bencher<'_, '_>) {
    let base = Base::new();
    let cache = Cache::new(ENTRIES as u64 * 2);
    base.runtime.block_on(async {
        for did in ALL.iter() {
            cache.insert(did.clone(), Arc::new([0_u8; 256])).await;
        }
    });
    bencher.with_inputs(any).bench_values(|did| cache.get(did).now_or_never().unwrap().unwrap());
}
