//! Finds out what is known of a DID: what is stored, while that holds, else what its home says.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use moka::future::Cache;

use super::cache::{Freshness, Loaded};
use super::resolved::Times;
use super::{Lookup, ResolvedDid, ServiceError};
use crate::clock::Clock;
use crate::config;
use crate::domain::{Did, DidRecord, Gone, Timestamp};
use crate::resolvers::{self, Home, Resolvers, Unreachable, did_key};
use crate::storage::{Answer, Reading, Store};

/// How soon a home that could not be asked is asked again, while what was read last is served.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The most DIDs whose forced reads are remembered.
const FORCED: u64 = 100_000;

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
}

/// What a load came to.
pub(super) enum Found {
    Loaded(Loaded),
    /// Its home has taken the DID out of use for good: it is to be revoked here, too.
    RevokedAtHome(Home),
}

impl Loader {
    pub(super) fn new(
        store: Store,
        resolvers: Resolvers,
        config: &config::Dids,
        clock: Clock,
    ) -> Self {
        let forced =
            Cache::builder().max_capacity(FORCED).time_to_live(config.refresh_interval).build();
        Self {
            store,
            resolvers,
            clock,
            cache_ttl: config.cache_ttl,
            negative_ttl: config.negative_ttl,
            forced,
        }
    }

    /// Who reads this DID; `None` when nobody does, so that its key can be stored by hand.
    pub(super) fn home(&self, did: &Did) -> Option<Home> {
        self.resolvers.home(did)
    }

    pub(super) async fn load(
        &self,
        did: &Did,
        freshness: &Freshness,
    ) -> Result<Found, ServiceError> {
        let record = self.store.did(did).await?;
        if did.method() == did_key::METHOD {
            return self.did_key(did, record).map(Found::Loaded);
        }
        if let Some(record) = record.as_ref().filter(|record| record.revoked_at.is_some()) {
            return self.found(record.clone()).map(Found::Loaded);
        }
        match (self.home(did), record) {
            (None, None) => Ok(Found::Loaded(self.nothing(Lookup::NotFound))),
            (None, Some(record)) if record.stale_at.is_none() => {
                self.found(record).map(Found::Loaded)
            }
            // Its resolver was switched off: what was read may be used as if it did not answer.
            (None, Some(record)) => {
                let nobody = Unreachable(format!("no resolver reads did:{}", did.method()));
                self.unreachable(did, Some(record), freshness, nobody).map(Found::Loaded)
            }
            (Some(home), record) => self.ask_unless_fresh(did, home, record, freshness).await,
        }
    }

    async fn ask_unless_fresh(
        &self,
        did: &Did,
        home: Home,
        record: Option<DidRecord>,
        freshness: &Freshness,
    ) -> Result<Found, ServiceError> {
        if let Some(record) = record.as_ref().filter(|record| is_current(record)) {
            if freshness.max_age.is_none_or(|max_age| age(record) <= max_age) {
                return self.found(record.clone()).map(Found::Loaded);
            }
            if !self.forced.entry_by_ref(did).or_insert(()).await.is_fresh() {
                return Err(ServiceError::RateLimited);
            }
        }
        // The database's clock orders what instances read: see `Store::record_did`.
        let asked_at = match &record {
            Some(record) => record.observed_at,
            None => self.store.now().await?,
        };
        let resolution = match self.resolvers.resolve(did).await {
            Ok(resolution) => resolution,
            Err(unreachable) => {
                return self.unreachable(did, record, freshness, unreachable).map(Found::Loaded);
            }
        };
        let (answer, ttl) = match resolution.answer {
            resolvers::Answer::Document { document, owner_address } => {
                (Answer::Document { document, owner_address }, home.ttl)
            }
            resolvers::Answer::NotFound => (Answer::Gone(Gone::NotFound), self.negative_ttl),
            resolvers::Answer::Deactivated { finalized_at }
                if record.as_ref().is_some_and(|seen| is_final(seen, finalized_at)) =>
            {
                return Ok(Found::RevokedAtHome(home));
            }
            resolvers::Answer::Deactivated { .. } => {
                (Answer::Gone(Gone::Deactivated), self.negative_ttl)
            }
            resolvers::Answer::Unusable(why) => {
                return Ok(Found::Loaded(self.nothing(Lookup::Unresolvable(why))));
            }
        };
        let deactivated = answer == Answer::Gone(Gone::Deactivated);
        let source = home.source;
        let version = resolution.version;
        let reading = Reading { did: did.clone(), source, answer, version, asked_at, ttl };
        match self.store.record_did(reading).await? {
            Some(record) => self.found(record),
            None if deactivated => {
                let times = times(asked_at, asked_at, self.negative_ttl);
                let unseen = ResolvedDid::deactivated_unseen(did, source, times);
                Ok(loaded(unseen, Some(self.negative_ttl)))
            }
            None => Ok(self.nothing(Lookup::NotFound)),
        }
        .map(Found::Loaded)
    }

    /// What was read last, however long ago, if the caller did not ask for better.
    fn unreachable(
        &self,
        did: &Did,
        record: Option<DidRecord>,
        freshness: &Freshness,
        Unreachable(why): Unreachable,
    ) -> Result<Loaded, ServiceError> {
        tracing::warn!(%did, why, "a DID could not be read from where it lives");
        let usable = record.filter(|record| {
            record.stale_at.is_some()
                && record.gone.is_none()
                && freshness.max_age.is_none_or(|max_age| age(record) <= max_age)
        });
        let Some(record) = usable else { return Err(ServiceError::Upstream(why)) };
        let times = self.times_of(&record);
        let stale_for = since(times.stale_at, record.observed_at);
        let stale = Times { stale_for: Some(stale_for), ..times };
        Ok(loaded(ResolvedDid::of_record(record, stale)?, Some(ASK_AGAIN)))
    }

    /// What the record says, which holds until its time.
    fn found(&self, record: DidRecord) -> Result<Loaded, ServiceError> {
        let times = self.times_of(&record);
        let left = since(record.observed_at, times.stale_at);
        let lifetime = record.revoked_at.is_none().then_some(left);
        if record.gone == Some(Gone::NotFound) && record.revoked_at.is_none() {
            let nothing = self.nothing(Lookup::NotFound);
            return Ok(Loaded { lifetime, age: times.age, ..nothing });
        }
        Ok(loaded(ResolvedDid::of_record(record, times)?, lifetime))
    }

    /// A did:key says itself what its key is, and will for ever.
    fn did_key(&self, did: &Did, record: Option<DidRecord>) -> Result<Loaded, ServiceError> {
        let now = record.as_ref().map_or_else(|| self.clock.now(), |record| record.observed_at);
        let times = times(now, now, self.cache_ttl);
        match (did_key::resolve(did), record) {
            (Ok(key), record) => {
                Ok(loaded(ResolvedDid::of_did_key(did, key, record, times)?, None))
            }
            (Err(error), None) => Ok(self.nothing(Lookup::Unresolvable(error.to_string()))),
            // What is no key can have been revoked all the same.
            (Err(_), Some(record)) => Ok(loaded(ResolvedDid::of_record(record, times)?, None)),
        }
    }

    fn nothing(&self, lookup: Lookup) -> Loaded {
        Loaded { lookup, lifetime: Some(self.negative_ttl), age: Duration::ZERO, bytes: 0 }
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

/// Whether a record holds what its home said, and that need not be asked again yet.
fn is_current(record: &DidRecord) -> bool {
    let holds_an_answer = record.document.is_some() || record.gone.is_some();
    holds_an_answer && record.stale_at.is_some_and(|stale_at| record.observed_at < stale_at)
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

fn loaded(resolved: ResolvedDid, lifetime: Option<Duration>) -> Loaded {
    let (age, bytes) = (resolved.age(), resolved.bytes());
    Loaded { lookup: Lookup::Found(Arc::new(resolved)), lifetime, age, bytes }
}
