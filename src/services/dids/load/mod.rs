//! Finds out what is known of a DID: what is stored, while that holds, else what its home says.
//! Nothing is stored here of a DID of which nothing was stored before.

mod answers;
mod silence;
mod times;

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;

use self::times::{age, is_current, since, times};
use super::asker::Asker;
use super::cache::{Freshness, Loaded};
use super::resolved::{Lookup, ResolvedDid, Times};
use super::seldom::Seldom;
use crate::clock::Clock;
use crate::config;
use crate::domain::{Did, DidRecord, Gone};
use crate::resolvers::{Account, Home, Reader, Resolvers, Unreachable, did_key};
use crate::services::ServiceError;
use crate::storage::Store;

/// What the DIDs take in memory whose forced reads, and their failures, are remembered, in bytes.
const FORCED_BYTES: u64 = 8 << 20;
/// What each of them takes besides its texts.
const REMEMBERED_BYTES: usize = 200;

/// Reads DIDs past the cache. Clones share everything.
#[derive(Clone)]
pub(super) struct Loader {
    store: Store,
    resolvers: Resolvers,
    clock: Clock,
    cache_ttl: Duration,
    negative_ttl: Duration,
    /// DIDs that a caller has forced to be read again, for as long as nobody may do so again.
    forced: Cache<Did, ()>,
    /// Why DIDs could not be read that a caller forced to be read, for just as long.
    failed: Cache<Did, Arc<str>>,
    of_known: Arc<Seldom>,
    of_new: Arc<Seldom>,
}

/// What a load came to.
pub(super) enum Found {
    Loaded(Loaded),
    /// Its home has taken the DID out of use for good: it is to be revoked here, too.
    RevokedAtHome(Home),
}

/// Why a DID's home gave nothing that can be used.
enum Silence {
    /// It was asked now: the log does not say so yet.
    New(String),
    /// It was asked a moment ago.
    Remembered(String),
}

impl Loader {
    pub(super) fn new(
        store: Store,
        resolvers: Resolvers,
        config: &config::Dids,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            resolvers,
            clock,
            cache_ttl: config.cache_ttl,
            negative_ttl: config.negative_ttl,
            forced: remembered(config, |()| 0),
            failed: remembered(config, |why: &Arc<str>| why.len()),
            of_known: Arc::default(),
            of_new: Arc::default(),
        }
    }

    /// Who reads this DID; `None` when nobody does, so that its key can be stored by hand.
    pub(super) fn home(&self, did: &Did) -> Option<Home> {
        self.resolvers.home(did)
    }

    pub(super) fn readers(&self) -> Vec<Reader> {
        self.resolvers.readers()
    }

    /// # Errors
    /// [`ServiceError::NoPlace`] when its home is not asked on this account now, whatever was read
    /// before; the others as of [`super::Dids::get`].
    pub(super) async fn load(
        &self,
        did: &Did,
        freshness: &Freshness,
        asker: Asker,
    ) -> Result<Found, ServiceError> {
        let record = self.store.did(did).await?;
        if did.method() == did_key::METHOD {
            return self.did_key(did, record).map(Found::Loaded);
        }
        if let Some(record) = record.as_ref().filter(|record| record.revoked_at.is_some()) {
            return self.found(record.clone()).map(Found::Loaded);
        }
        match (self.home(did), record) {
            (None, None) => Ok(Found::Loaded(self.nothing(Lookup::NotFound, false))),
            (None, Some(record)) if record.stale_at.is_none() => {
                self.found(record).map(Found::Loaded)
            }
            // Its resolver was switched off: what was read may be used as if it did not answer.
            (None, Some(record)) => {
                let why = Silence::New(Unreachable::no_resolver(did).to_string());
                self.unreachable(did, Some(record), freshness, asker, why).map(Found::Loaded)
            }
            (Some(home), record) => {
                self.ask_unless_fresh(did, home, record, freshness, asker).await
            }
        }
    }

    async fn ask_unless_fresh(
        &self,
        did: &Did,
        home: Home,
        record: Option<DidRecord>,
        freshness: &Freshness,
        asker: Asker,
    ) -> Result<Found, ServiceError> {
        let current = record.as_ref().filter(|record| is_current(record));
        if let Some(record) = current
            && freshness.max_age.is_none_or(|max_age| age(record) <= max_age)
        {
            return self.found(record.clone()).map(Found::Loaded);
        }
        let is_forced = freshness.max_age.is_some();
        if is_forced && let Some(why) = self.failed.get(did).await {
            let why = Silence::Remembered(why.to_string());
            return self.unreachable(did, record, freshness, asker, why).map(Found::Loaded);
        }
        if current.is_some() && !self.forced.entry_by_ref(did).or_insert(()).await.is_fresh() {
            return Err(ServiceError::RateLimited);
        }
        let (began, now) = (Instant::now(), self.clock.now());
        let account = Account { peer: asker.peer(), known: record.is_some() };
        let resolution = match self.resolvers.resolve(did, account).await {
            Ok(resolution) => resolution,
            Err(Unreachable::Full(full)) => {
                return Err(ServiceError::NoPlace { full, known: account.known });
            }
            Err(Unreachable::Failed(why)) => {
                if is_forced {
                    self.failed.insert(did.clone(), why.as_str().into()).await;
                }
                let why = Silence::New(why);
                return self.unreachable(did, record, freshness, asker, why).map(Found::Loaded);
            }
        };
        self.failed.invalidate(did).await;
        match record {
            Some(record) => self.record(did, home, record, resolution, freshness, asker).await,
            None => self.new_did(did, home, resolution, began, now).map(Found::Loaded),
        }
    }

    /// What the record says, which holds until its time.
    fn found(&self, record: DidRecord) -> Result<Loaded, ServiceError> {
        let times = self.times_of(&record);
        let left = since(record.observed_at, times.stale_at);
        let lifetime = record.revoked_at.is_none().then_some(left);
        if record.gone == Some(Gone::NotFound) && record.revoked_at.is_none() {
            let nothing = self.nothing(Lookup::NotFound, true);
            return Ok(Loaded { lifetime, age: times.age, ..nothing });
        }
        Ok(loaded(ResolvedDid::of_record(record, times)?, lifetime, true))
    }

    /// A did:key says itself what its key is, and will for ever.
    fn did_key(&self, did: &Did, record: Option<DidRecord>) -> Result<Loaded, ServiceError> {
        let now = record.as_ref().map_or_else(|| self.clock.now(), |record| record.observed_at);
        let times = times(now, now, self.cache_ttl);
        match (did_key::resolve(did), record) {
            (Ok(key), record) => {
                let known = record.is_some();
                Ok(loaded(ResolvedDid::of_did_key(did, key, record, times)?, None, known))
            }
            (Err(error), None) => Ok(self.nothing(Lookup::Unresolvable(error.into()), false)),
            // What is no key can have been revoked all the same.
            (Err(_), Some(record)) => {
                Ok(loaded(ResolvedDid::of_record(record, times)?, None, true))
            }
        }
    }

    fn nothing(&self, lookup: Lookup, known: bool) -> Loaded {
        Loaded { lookup, lifetime: Some(self.negative_ttl), age: Duration::ZERO, bytes: 0, known }
    }

    fn times_of(&self, record: &DidRecord) -> Times {
        match (record.fetched_at, record.stale_at) {
            (Some(fetched_at), Some(stale_at)) => {
                Times { fetched_at, stale_at, age: age(record), stale_for: None }
            }
            // Nobody can be asked: reading it here is as fresh as it gets.
            _ => times(record.observed_at, record.observed_at, self.cache_ttl),
        }
    }
}

fn loaded(resolved: ResolvedDid, lifetime: Option<Duration>, known: bool) -> Loaded {
    let (age, bytes) = (resolved.age(), resolved.bytes());
    Loaded { lookup: Lookup::Found(Arc::new(resolved)), lifetime, age, bytes, known }
}

/// Something about DIDs, for as long as nobody may force them to be read again.
fn remembered<V: Clone + Send + Sync + 'static>(
    config: &config::Dids,
    bytes: fn(&V) -> usize,
) -> Cache<Did, V> {
    let weigh = move |did: &Did, value: &V| {
        u32::try_from(REMEMBERED_BYTES + did.as_str().len() + bytes(value)).unwrap_or(u32::MAX)
    };
    let remembered = Cache::builder().max_capacity(FORCED_BYTES).weigher(weigh);
    remembered.time_to_live(config.refresh_interval).build()
}
