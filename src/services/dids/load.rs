//! Finds out what is known of a DID: what is stored, while that holds, else what its home says.
//! Nothing is stored here of a DID of which nothing was stored before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use moka::future::Cache;

use super::cache::{Freshness, Loaded};
use super::resolved::Times;
use super::seldom::Seldom;
use super::{Asker, Lookup, ResolvedDid, ServiceError};
use crate::clock::Clock;
use crate::config;
use crate::domain::{Did, DidRecord, Gone, Timestamp};
use crate::resolvers::{
    self, Account, Full, Home, Reader, Resolution, Resolvers, Unreachable, Unusable, did_key,
};
use crate::storage::{Answer, Reading, Store};

/// How soon a home that could not be asked is asked again, while what was read last is served.
const ASK_AGAIN: Duration = Duration::from_secs(5);
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

    /// What its home says of a DID of which nothing is stored. That is left so.
    fn new_did(
        &self,
        did: &Did,
        home: Home,
        resolution: Resolution,
        began: Instant,
        now: Timestamp,
    ) -> Result<Loaded, ServiceError> {
        let (document, owner_address) = match resolution.answer {
            resolvers::Answer::Document { document, owner_address } => (document, owner_address),
            resolvers::Answer::NotFound => return Ok(self.nothing(Lookup::NotFound, false)),
            resolvers::Answer::Deactivated { .. } => {
                let times = times(now, now, self.negative_ttl);
                let unseen = ResolvedDid::deactivated_unseen(did, home.source, times);
                return Ok(loaded(unseen, Some(self.negative_ttl), false));
            }
            resolvers::Answer::Unusable(why) => {
                return Ok(self.nothing(Lookup::Unresolvable(why), false));
            }
        };
        let mut read = ResolvedDid::unseen(did, times(now, now, home.ttl));
        home.source.clone_into(&mut read.source);
        read.owner_address = owner_address;
        read.version = resolution.version;
        let read = read.with_document(document, began)?;
        Ok(Loaded { age: Duration::ZERO, ..loaded(read, Some(home.ttl), false) })
    }

    /// Stores what its home says of a DID of which something is stored.
    async fn record(
        &self,
        did: &Did,
        home: Home,
        record: DidRecord,
        resolution: Resolution,
        freshness: &Freshness,
        asker: Asker,
    ) -> Result<Found, ServiceError> {
        let (answer, ttl) = match resolution.answer {
            resolvers::Answer::Document { document, owner_address } => {
                (Answer::Document { document, owner_address }, home.ttl)
            }
            resolvers::Answer::NotFound => (Answer::Gone(Gone::NotFound), self.negative_ttl),
            resolvers::Answer::Deactivated { finalized_at } if is_final(&record, finalized_at) => {
                return Ok(Found::RevokedAtHome(home));
            }
            resolvers::Answer::Deactivated { .. } => {
                (Answer::Gone(Gone::Deactivated), self.negative_ttl)
            }
            // That may be a mistake of its home's: what was read before holds for its time. What is
            // no DID of its method, or not read here, is not for its home to say.
            resolvers::Answer::Unusable(
                why @ (Unusable::Document(_) | Unusable::Representation(_)),
            ) if holds_document(&record) => {
                let (record, why) = (Some(record), Silence::New(why.to_string()));
                return self.unreachable(did, record, freshness, asker, why).map(Found::Loaded);
            }
            resolvers::Answer::Unusable(why) => {
                return Ok(Found::Loaded(self.nothing(Lookup::Unresolvable(why), true)));
            }
        };
        // The database's clock orders what instances read: see `Store::record_did`.
        let (source, asked_at) = (home.source, record.observed_at);
        let version = resolution.version;
        let reading = Reading { did: did.clone(), source, answer, version, asked_at, ttl };
        match self.store.record_did(reading).await? {
            Some(record) => self.found(record),
            // It was forgotten meanwhile.
            None => Ok(self.nothing(Lookup::NotFound, false)),
        }
        .map(Found::Loaded)
    }

    /// Stores what was read of a DID when nothing was stored of it; `false` when it has no home.
    pub(super) async fn store_reading(&self, read: &ResolvedDid) -> Result<bool, ServiceError> {
        let Some((home, answer)) = self.home(&read.did).zip(read.answer()) else {
            return Ok(false);
        };
        // By the database's clock, and no later than its home was asked.
        let now = self.store.now().await?;
        let asked_at = now - TimeDelta::from_std(read.age()).unwrap_or_default();
        let (did, source, version, ttl) = (read.did.clone(), home.source, read.version, home.ttl);
        let reading = Reading { did, source, answer, version, asked_at, ttl };
        self.store.record_did(reading).await?;
        Ok(true)
    }

    /// What was read last, however long ago, if the caller did not ask for better.
    fn unreachable(
        &self,
        did: &Did,
        record: Option<DidRecord>,
        freshness: &Freshness,
        asker: Asker,
        why: Silence,
    ) -> Result<Loaded, ServiceError> {
        let why = match why {
            Silence::Remembered(why) => why,
            Silence::New(why) => {
                self.log(did, &why, record.is_some(), asker);
                why
            }
        };
        match self.last_read(record, freshness)? {
            Some(read) => Ok(loaded(read, Some(ASK_AGAIN), true)),
            None => Err(ServiceError::Upstream(why)),
        }
    }

    /// What was read last of a DID whose home is not asked on this account now.
    ///
    /// # Errors
    /// [`ServiceError::NoPlace`] when that will not do.
    pub(super) async fn without_asking(
        &self,
        did: &Did,
        freshness: &Freshness,
        full: Full,
    ) -> Result<Lookup, ServiceError> {
        let record = self.store.did(did).await?;
        let read = self.last_read(record, freshness)?;
        let no_place = ServiceError::NoPlace { full, known: true };
        read.map(|read| Lookup::Found(Arc::new(read))).ok_or(no_place)
    }

    fn last_read(
        &self,
        record: Option<DidRecord>,
        freshness: &Freshness,
    ) -> Result<Option<ResolvedDid>, ServiceError> {
        let usable = record.filter(|record| {
            holds_document(record) && freshness.max_age.is_none_or(|max_age| age(record) <= max_age)
        });
        let Some(record) = usable else { return Ok(None) };
        let times = self.times_of(&record);
        let stale_for = since(times.stale_at, record.observed_at);
        let stale = Times { stale_for: Some(stale_for), ..times };
        ResolvedDid::of_record(record, stale).map(Some)
    }

    /// Strangers do not fill the log: what they ask for is said now and then.
    fn log(&self, did: &Did, why: &str, known: bool, asker: Asker) {
        let message = "a DID could not be read from where it lives";
        let of_strangers = if known { &self.of_known } else { &self.of_new };
        match asker {
            Asker::Trusted(_) => tracing::warn!(%did, why, message),
            Asker::Stranger(peer) => {
                if let Some(unsaid) = of_strangers.say() {
                    tracing::warn!(%did, why, %peer, known, unsaid, message);
                }
            }
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

/// Whether a record holds what its home said, and that need not be asked again yet. What was read
/// later than now was read while the clock was ahead, and nobody knows when.
fn is_current(record: &DidRecord) -> bool {
    let holds_an_answer = record.document.is_some() || record.gone.is_some();
    let read_before = record.fetched_at.is_none_or(|at| at <= record.observed_at);
    holds_an_answer
        && read_before
        && record.stale_at.is_some_and(|stale_at| record.observed_at < stale_at)
}

/// Whether a record holds a document that its home has not taken back.
const fn holds_document(record: &DidRecord) -> bool {
    record.stale_at.is_some() && record.document.is_some() && record.gone.is_none()
}

/// Whether a DID that was seen active was deactivated for good: it still was so in a finalized
/// block no older than what was read last.
fn is_final(seen: &DidRecord, finalized_at: Option<u64>) -> bool {
    seen.document.is_some() && seen.version.is_some_and(|seen| finalized_at >= Some(seen))
}

/// How long before it was observed a record was read from its home.
fn age(record: &DidRecord) -> Duration {
    record.fetched_at.map_or(Duration::ZERO, |fetched_at| since(fetched_at, record.observed_at))
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    (later - earlier).to_std().unwrap_or_default()
}

fn times(fetched_at: Timestamp, now: Timestamp, ttl: Duration) -> Times {
    let ttl = TimeDelta::from_std(ttl).unwrap_or_default();
    Times { fetched_at, stale_at: fetched_at + ttl, age: since(fetched_at, now), stale_for: None }
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
