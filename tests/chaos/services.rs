//! Services on a test's store, as an instance has them.

use std::sync::Arc;
use std::time::Duration;

use onceguard::clock::Clock;
use onceguard::config::{self, Need, Sources};
use onceguard::metrics::Metrics;
use onceguard::resolvers::Resolvers;
use onceguard::services::{Claims, Dids};
use onceguard::storage::Store;
use tokio::runtime::Handle;

pub fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

pub fn claims(store: &Store) -> Claims {
    let config = config::Claims {
        queue: 16_384,
        max_batch: 1024,
        quota_per_signer: 1_000_000, // the store's own limit is what counts
        quota_per_namespace: 1_000_000,
        purge_margin: Duration::from_mins(5),
    };
    Claims::start(store.clone(), &config, metrics())
}

pub fn dids(store: &Store) -> Dids {
    dids_with(store, metrics())
}

pub fn dids_with(store: &Store, metrics: Arc<Metrics>) -> Dids {
    let config = Sources::default().load(Need::Database).unwrap().config;
    let resolvers = Resolvers::new(&config.resolvers, metrics.clone(), Handle::current()).unwrap();
    Dids::new(store.clone(), resolvers, &config.dids, Clock::system(), metrics)
}
