//! The cache of DIDs: one read for everybody who asks at the same time, and no answer that a
//! change has overtaken.
//!
//! It has two parts. What is known (because it is stored, or its key has signed something) stays
//! for its time. What was only read because a message named it stays in a small part of its own
//! for a moment, so that strangers push out nothing but what other strangers had read.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use super::resolved::Lookup;
use crate::config;
use crate::domain::Did;
use crate::metrics::Metrics;
use crate::resolvers::Full;
use crate::services::ServiceError;

/// Writes invalidate by slots of DIDs rather than one by one: see [`Epochs`].
const EPOCHS: usize = 1024;
/// How long what is not known yet stays at most.
const NEW_FOR: Duration = Duration::from_mins(1);
/// What an entry takes besides its texts and keys, in bytes.
const ENTRY_BYTES: usize = 300;

/// The cache. Clones share it.
#[derive(Clone)]
pub(super) struct DidCache {
    known: Cache<Did, Cached>,
    /// Every load ends here first: what is known moves on.
    new: Cache<Did, Cached>,
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
    /// Whether anything is stored about the DID.
    pub(super) known: bool,
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

struct Lifetimes {
    /// The longest; `None` is for ever.
    max: Option<Duration>,
}

impl Lifetimes {
    fn of(&self, cached: &Cached) -> Option<Duration> {
        match (cached.loaded.lifetime, self.max) {
            (Some(own), Some(max)) => Some(own.min(max)),
            (own, max) => own.or(max),
        }
    }
}

impl Expiry<Did, Cached> for Lifetimes {
    fn expire_after_create(&self, _: &Did, value: &Cached, _: Instant) -> Option<Duration> {
        self.of(value)
    }

    fn expire_after_update(
        &self,
        _: &Did,
        value: &Cached,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.of(value)
    }
}

impl DidCache {
    pub(super) fn new(config: &config::Dids, metrics: Arc<Metrics>) -> Self {
        // An entry weighs at least its share of the bytes, which bounds their number as well.
        let share = config.cache_bytes / config.cache_entries.max(1);
        let part = |bytes: u64, max: Option<Duration>| {
            let weigh = move |did: &Did, cached: &Cached| {
                let bytes = ENTRY_BYTES + 2 * did.as_str().len() + cached.loaded.bytes;
                u32::try_from(share.max(bytes as u64)).unwrap_or(u32::MAX)
            };
            let part = Cache::builder().max_capacity(bytes).weigher(weigh);
            part.expire_after(Lifetimes { max }).build()
        };
        Self {
            known: part(config.cache_bytes, None),
            new: part(config.new_bytes, Some(NEW_FOR)),
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
        if let Some(cached) = self.known.get(did).await
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
            let own = AtomicBool::new(false);
            let fill = async {
                own.store(true, Ordering::Relaxed);
                self.fill(did, load()).await
            };
            let entry = match self.new.entry_by_ref(did).or_try_insert_with(fill).await {
                Ok(entry) => entry,
                // Another's load, for whom there was no place. This caller may have one.
                Err(error)
                    if matches!(*error, ServiceError::NoPlace { full: Full::Peer, .. })
                        && !own.load(Ordering::Relaxed) =>
                {
                    continue;
                }
                Err(error) => return Err((*error).clone()),
            };
            let is_fresh = entry.is_fresh();
            let cached = entry.into_value();
            if is_fresh {
                self.metrics.did_cache_misses.inc();
                if cached.loaded.known {
                    self.known.insert(did.clone(), cached.clone()).await;
                    self.new.invalidate(did).await;
                }
                return Ok(cached.loaded.lookup);
            }
            if self.will_do(did, &cached, freshness) {
                self.metrics.did_cache_hits.inc();
                return Ok(cached.loaded.lookup);
            }
            self.new.invalidate(did).await;
        }
    }

    /// This DID has proved what it is: it stays as what is known does.
    pub(super) async fn keep(&self, did: &Did) {
        if let Some(cached) = self.new.remove(did).await {
            self.known.insert(did.clone(), cached).await;
        }
    }

    /// What is known of this DID may have changed.
    pub(super) async fn changed(&self, did: &Did) {
        self.shared.epochs.advance(did);
        self.known.invalidate(did).await;
        self.new.invalidate(did).await;
    }

    /// Anything may have changed.
    pub(super) fn all_changed(&self) {
        for slot in &self.shared.epochs.slots {
            slot.fetch_add(1, Ordering::SeqCst);
        }
        self.known.invalidate_all();
        self.new.invalidate_all();
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

    fn numbered(number: usize) -> Did {
        Did::parse(&format!("did:web:host-{number}.example")).unwrap()
    }

    async fn fill(cache: &DidCache, number: usize, bytes: usize, known: bool) {
        let did = numbered(number);
        let freshness = Freshness::new(None);
        let load = async || {
            let (lookup, age) = (Lookup::NotFound, Duration::ZERO);
            Ok(Loaded { lookup, lifetime: None, age, bytes, known })
        };
        cache.get(&did, &freshness, load).await.unwrap();
    }

    fn cache(entries: u64, bytes: u64) -> DidCache {
        let some_time = Duration::from_mins(1);
        let config = config::Dids {
            cache_entries: entries,
            cache_bytes: bytes,
            new_bytes: bytes,
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
            fill(cache, number, bytes, true).await;
        }
        cache.known.run_pending_tasks().await;
        cache.known.entry_count()
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

    /// What strangers name takes the room of what other strangers named, until it has proved
    /// itself.
    #[tokio::test]
    async fn what_is_new_has_a_part_of_its_own() {
        let cache = cache(1000, 1 << 20);
        fill(&cache, 0, 10_000, true).await;
        fill(&cache, 1, 10_000, false).await;
        cache.keep(&numbered(1)).await;
        for number in 2..500 {
            fill(&cache, number, 100_000, false).await;
        }
        cache.new.run_pending_tasks().await;
        assert!((1..=10).contains(&cache.new.entry_count()), "{}", cache.new.entry_count());
        for (number, kept) in [(0, true), (1, true), (2, false)] {
            assert_eq!(cache.known.get(&numbered(number)).await.is_some(), kept, "{number}");
        }
    }

    #[tokio::test]
    async fn what_is_new_stays_for_a_moment() {
        let times = |own: Option<Duration>, max: Option<Duration>| {
            let (lookup, age) = (Lookup::NotFound, Duration::ZERO);
            let loaded = Loaded { lookup, lifetime: own, age, bytes: 0, known: false };
            let cached = Cached { loaded, began: Instant::now(), epoch: 0 };
            Lifetimes { max }.expire_after_create(&numbered(0), &cached, Instant::now())
        };
        let (short, long) = (Duration::from_secs(1), Duration::from_hours(1));
        for (own, max, expected) in [
            (None, None, None),
            (Some(long), None, Some(long)),
            (None, Some(short), Some(short)),
            (Some(long), Some(short), Some(short)),
            (Some(short), Some(long), Some(short)),
        ] {
            assert_eq!(times(own, max), expected);
        }
    }

    /// A caller who joined another's load is not refused because the other had no place.
    #[tokio::test]
    async fn a_refusal_is_its_own_callers() {
        let cache = cache(1000, 1 << 20);
        let (did, freshness) = (numbered(0), Freshness::new(None));
        let (entered, leave) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let refused = cache.get(&did, &freshness, async || {
            entered.notify_one();
            leave.notified().await;
            Err(ServiceError::NoPlace { full: Full::Peer, known: false })
        });
        let other = async {
            entered.notified().await;
            let found = cache.get(&did, &freshness, async || {
                let (lookup, age) = (Lookup::NotFound, Duration::ZERO);
                Ok(Loaded { lookup, lifetime: None, age, bytes: 0, known: false })
            });
            let (found, ()) = tokio::join!(found, async { leave.notify_one() });
            found
        };
        let (refused, found) = tokio::join!(refused, other);
        assert!(matches!(refused, Err(ServiceError::NoPlace { .. })));
        assert!(matches!(found, Ok(Lookup::NotFound)));
    }
}
