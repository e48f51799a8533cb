//! The cache of DIDs: one read for everybody who asks at the same time, and no answer that a
//! change has overtaken.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use super::{Lookup, ServiceError};
use crate::config;
use crate::domain::Did;
use crate::metrics::Metrics;

/// Writes invalidate by slots of DIDs rather than one by one: see [`Epochs`].
const EPOCHS: usize = 1024;
/// What an entry takes besides its texts and keys, in bytes.
const ENTRY_BYTES: usize = 300;

/// The cache. Clones share it.
#[derive(Clone)]
pub(super) struct DidCache {
    entries: Cache<Did, Cached>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

struct Shared {
    epochs: Epochs,
    /// Whether every change by another instance is heard.
    trusted: AtomicBool,
}

/// What was found out of a DID, and for how long it holds.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) lookup: Lookup,
    /// `None` is for ever.
    pub(super) lifetime: Option<Duration>,
    /// How old it was when it was loaded.
    pub(super) age: Duration,
    /// What it takes in memory, roughly, in bytes.
    pub(super) bytes: usize,
}

#[derive(Clone)]
struct Cached {
    loaded: Loaded,
    /// When the load began.
    began: Instant,
    /// The slot's epoch before that.
    epoch: u64,
}

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    /// The oldest that it may be at `called`.
    pub(super) max_age: Option<Duration>,
    pub(super) called: Instant,
}

impl Freshness {
    pub(super) fn new(max_age: Option<Duration>) -> Self {
        Self { max_age, called: Instant::now() }
    }

    /// Whether something that was `age` old at `began` will do.
    fn allows(&self, began: Instant, age: Duration) -> bool {
        self.max_age.is_none_or(|max| age + began.elapsed() <= max + self.called.elapsed())
    }
}

/// Counters that writers move after their commit. A cached answer whose counter has moved since
/// before it was read may predate a write, and is not used. Simply removing the entry would lose
/// the race against a read that began before the write and is put into the cache after it.
struct Epochs {
    hasher: RandomState,
    slots: [AtomicU64; EPOCHS],
}

impl Epochs {
    fn new() -> Self {
        Self { hasher: RandomState::new(), slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn of(&self, did: &Did) -> Option<&AtomicU64> {
        let hash = self.hasher.hash_one(did);
        self.slots.get(usize::try_from(hash).unwrap_or(0) % EPOCHS)
    }

    fn current(&self, did: &Did) -> u64 {
        self.of(did).map_or(0, |slot| slot.load(Ordering::SeqCst))
    }

    fn advance(&self, did: &Did) {
        if let Some(slot) = self.of(did) {
            slot.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Lifetimes;

impl Expiry<Did, Cached> for Lifetimes {
    fn expire_after_create(&self, _: &Did, value: &Cached, _: Instant) -> Option<Duration> {
        value.loaded.lifetime
    }

    fn expire_after_update(
        &self,
        _: &Did,
        value: &Cached,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        value.loaded.lifetime
    }
}

impl DidCache {
    pub(super) fn new(config: &config::Dids, metrics: Arc<Metrics>) -> Self {
        // An entry weighs at least its share of the bytes, which bounds their number as well.
        let share = config.cache_bytes / config.cache_entries.max(1);
        let weigh = move |did: &Did, cached: &Cached| {
            let bytes = ENTRY_BYTES + 2 * did.as_str().len() + cached.loaded.bytes;
            u32::try_from(share.max(bytes as u64)).unwrap_or(u32::MAX)
        };
        Self {
            entries: Cache::builder()
                .max_capacity(config.cache_bytes)
                .weigher(weigh)
                .expire_after(Lifetimes)
                .build(),
            shared: Arc::new(Shared { epochs: Epochs::new(), trusted: AtomicBool::new(true) }),
            metrics,
        }
    }

    /// The cached answer if it will do, else what `load` finds: one load for everybody who waits.
    pub(super) async fn get<F>(
        &self,
        did: &Did,
        freshness: &Freshness,
        load: impl Fn() -> F,
    ) -> Result<Lookup, ServiceError>
    where
        F: Future<Output = Result<Loaded, ServiceError>>,
    {
        if let Some(cached) = self.entries.get(did).await
            && self.will_do(did, &cached, freshness)
        {
            self.metrics.did_cache_hits.inc();
            return Ok(cached.loaded.lookup);
        }
        // On the heap: a hit must not carry the room that a load takes.
        Box::pin(self.get_or_load(did, freshness, load)).await
    }

    async fn get_or_load<F>(
        &self,
        did: &Did,
        freshness: &Freshness,
        load: impl Fn() -> F,
    ) -> Result<Lookup, ServiceError>
    where
        F: Future<Output = Result<Loaded, ServiceError>>,
    {
        loop {
            let entry = self
                .entries
                .entry_by_ref(did)
                .or_try_insert_with(self.fill(did, load()))
                .await
                .map_err(|error: Arc<ServiceError>| (*error).clone())?;
            if entry.is_fresh() {
                self.metrics.did_cache_misses.inc();
                return Ok(entry.into_value().loaded.lookup);
            }
            let cached = entry.into_value();
            if self.will_do(did, &cached, freshness) {
                self.metrics.did_cache_hits.inc();
                return Ok(cached.loaded.lookup);
            }
            self.entries.invalidate(did).await;
        }
    }

    /// What is known of this DID may have changed.
    pub(super) async fn changed(&self, did: &Did) {
        self.shared.epochs.advance(did);
        self.entries.invalidate(did).await;
    }

    /// Anything may have changed.
    pub(super) fn all_changed(&self) {
        for slot in &self.shared.epochs.slots {
            slot.fetch_add(1, Ordering::SeqCst);
        }
        self.entries.invalidate_all();
    }

    /// While it is not trusted, nothing that was loaded before a call will do for it.
    pub(super) fn trust(&self, trusted: bool) {
        self.shared.trusted.store(trusted, Ordering::SeqCst);
        self.metrics.did_changes_seen.set(trusted.into());
    }

    fn will_do(&self, did: &Did, cached: &Cached, freshness: &Freshness) -> bool {
        cached.epoch == self.shared.epochs.current(did)
            && freshness.allows(cached.began, cached.loaded.age)
            && (cached.began >= freshness.called || self.shared.trusted.load(Ordering::SeqCst))
    }

    async fn fill(
        &self,
        did: &Did,
        load: impl Future<Output = Result<Loaded, ServiceError>>,
    ) -> Result<Cached, ServiceError> {
        let (began, epoch) = (Instant::now(), self.shared.epochs.current(did));
        let loaded = load.await;
        let result = match &loaded {
            Ok(Loaded { lookup: Lookup::Found(_), .. }) => "found",
            Ok(Loaded { lookup: Lookup::NotFound, .. }) => "not_found",
            Ok(Loaded { lookup: Lookup::Unresolvable(_), .. }) => "unresolvable",
            Err(_) => "error",
        };
        self.metrics.did_cache_loads.with_label_values(&[result]).inc();
        Ok(Cached { loaded: loaded?, began, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fill(cache: &DidCache, number: usize, bytes: usize) {
        let did = Did::parse(&format!("did:web:host-{number}.example")).unwrap();
        let freshness = Freshness::new(None);
        let load = async || {
            let (lookup, age) = (Lookup::NotFound, Duration::ZERO);
            Ok(Loaded { lookup, lifetime: None, age, bytes })
        };
        cache.get(&did, &freshness, load).await.unwrap();
    }

    fn cache(entries: u64, bytes: u64) -> DidCache {
        let some_time = Duration::from_mins(1);
        let config = config::Dids {
            cache_entries: entries,
            cache_bytes: bytes,
            cache_ttl: some_time,
            negative_ttl: some_time,
            max_stale: some_time,
            refresh_interval: some_time,
            unused_retention: some_time,
        };
        DidCache::new(&config, Arc::new(Metrics::new().unwrap()))
    }

    /// How many entries stay of many.
    async fn kept(cache: &DidCache, bytes: usize) -> u64 {
        for number in 0..500 {
            fill(cache, number, bytes).await;
        }
        cache.entries.run_pending_tasks().await;
        cache.entries.entry_count()
    }

    #[tokio::test]
    async fn small_entries_are_bounded_by_their_number() {
        let kept = kept(&cache(100, 1 << 20), 0).await;
        assert!((50..=100).contains(&kept), "{kept}");
    }

    #[tokio::test]
    async fn large_entries_are_bounded_by_their_bytes() {
        let kept = kept(&cache(100, 1 << 20), 100_000).await;
        assert!((5..=10).contains(&kept), "{kept}");
    }
}
