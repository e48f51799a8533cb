//! Measures single parts: `make bench-micro`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]

mod claims;
mod dids;
mod sealing;
mod signatures;

use std::sync::Arc;

use onceguard::app::open_store;
use onceguard::clock::Clock;
use onceguard::config::{Config, Need, Sources};
use onceguard::metrics::Metrics;
use onceguard::storage::Store;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// The parts of services, on a database in memory.
struct Base {
    /// Drives whatever is made of this.
    runtime: Runtime,
    config: Config,
    store: Store,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Base {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let sources = Sources::default().flag(
            "--database-url",
            "database.url",
            Some("sqlite::memory:".into()),
        );
        let config = sources.load(Need::Database).unwrap().config;
        let (metrics, clock) = (Arc::new(Metrics::new().unwrap()), Clock::system());
        let store = runtime.block_on(async {
            let store = open_store(&config, &metrics, &clock).await.unwrap();
            store.migrate_up().await.unwrap();
            store
        });
        Self { runtime, config, store, metrics, clock }
    }
}
