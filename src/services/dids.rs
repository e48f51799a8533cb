//! DIDs: their keys through the cache, and their revocation.
//!
//! A read goes cache → database → resolver, once for everybody who asks at the same time. The
//! cache may be a few seconds behind another instance; what decides a claim never reads it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use serde_json::json;

use super::ServiceError;
use crate::clock::Clock;
use crate::config;
use crate::domain::{
    Actor, AuditEvent, Did, DidFilter, DidRecord, EndReason, Page, PageRequest, PublicKey,
    Timestamp,
};
use crate::metrics::Metrics;
use crate::resolvers::did_key;
use crate::signatures::VerifyingKey;
use crate::storage::{DidForgotten, DidStored, NewDid, Store};

/// Sessions ended in one transaction when their party is revoked.
const END_BATCH: u32 = 500;
/// Writes invalidate by slots of DIDs rather than one by one: see [`Dids::get`].
const EPOCHS: usize = 1024;

/// The DIDs. Clones share the cache.
#[derive(Clone)]
pub struct Dids {
    store: Store,
    clock: Clock,
    metrics: Arc<Metrics>,
    cache_ttl: Duration,
    cache: Cache<Did, Cached>,
    epochs: Arc<Epochs>,
}

/// What is known of a DID now.
#[derive(Debug, Clone)]
pub struct ResolvedDid {
    pub did: Did,
    /// `None` for a DID that was revoked before anybody saw its key.
    pub key: Option<PublicKey>,
    pub verification_methods: Vec<VerificationMethod>,
    pub owner_address: Option<String>,
    pub revoked_at: Option<Timestamp>,
    /// `key` for a did:key, `stored` for what a `PUT` left, `revoked` for a DID known only by
    /// its revocation.
    pub source: String,
    /// When this was read.
    pub fetched_at: Timestamp,
    /// When the cache will read it again.
    pub stale_at: Timestamp,
    /// `None` when nothing is stored about it.
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
}

/// A key of a DID, by its DID URL (DID Core 1.0, section 5.2).
#[derive(Debug, Clone)]
pub struct VerificationMethod {
    pub id: String,
    pub key: PublicKey,
    /// The same key, parsed once.
    pub verifying_key: VerifyingKey,
}

/// What came of looking a DID up.
#[derive(Debug, Clone)]
pub enum Lookup {
    Found(Arc<ResolvedDid>),
    NotFound,
    /// It is no DID of its method, or its key may not be used; the text says why.
    Unresolvable(String),
}

/// What came of storing a DID by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum PutDid {
    Stored(DidStored),
    /// A did:key must be stored with the key that it is.
    KeyMismatch,
}

/// What came of revoking a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    pub revoked_at: Timestamp,
    pub sessions_ended: u64,
}

#[derive(Clone)]
struct Cached {
    lookup: Lookup,
    /// The slot's epoch before the database was read.
    epoch: u64,
    loaded_at: Instant,
}

/// Counters that writers move after their commit. A cached answer whose counter has moved since
/// before it was read may predate a write, and is not used. Simply removing the entry would lose
/// the race against a read that began before the write and is put into the cache after it.
struct Epochs {
    hasher: RandomState,
    slots: [AtomicU64; EPOCHS],
}

impl Epochs {
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
    found: Duration,
    missing: Duration,
}

impl Expiry<Did, Cached> for Lifetimes {
    fn expire_after_create(&self, _: &Did, value: &Cached, _: Instant) -> Option<Duration> {
        Some(match value.lookup {
            Lookup::Found(_) => self.found,
            Lookup::NotFound | Lookup::Unresolvable(_) => self.missing,
        })
    }

    fn expire_after_update(
        &self,
        did: &Did,
        value: &Cached,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(did, value, now)
    }
}

impl Dids {
    #[must_use]
    pub fn new(store: Store, config: &config::Dids, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let lifetimes = Lifetimes { found: config.cache_ttl, missing: config.negative_ttl };
        let cache =
            Cache::builder().max_capacity(config.cache_entries).expire_after(lifetimes).build();
        let slots = std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            store,
            clock,
            metrics,
            cache_ttl: config.cache_ttl,
            cache,
            epochs: Arc::new(Epochs { hasher: RandomState::new(), slots }),
        }
    }

    /// What is known of a DID, at most `max_age` seconds old when that is given.
    pub async fn get(&self, did: &Did, max_age: Option<u32>) -> Result<Lookup, ServiceError> {
        let max_age = max_age.map(|seconds| Duration::from_secs(seconds.into()));
        loop {
            let entry = self
                .cache
                .entry_by_ref(did)
                .or_try_insert_with(self.load(did))
                .await
                .map_err(|error: Arc<ServiceError>| (*error).clone())?;
            if entry.is_fresh() {
                self.metrics.did_cache_misses.inc();
                return Ok(entry.into_value().lookup);
            }
            let cached = entry.into_value();
            let current = cached.epoch == self.epochs.current(did);
            if current && max_age.is_none_or(|limit| cached.loaded_at.elapsed() <= limit) {
                self.metrics.did_cache_hits.inc();
                return Ok(cached.lookup);
            }
            self.cache.invalidate(did).await;
        }
    }

    /// Reads a DID again, whatever the cache says.
    pub async fn refresh(&self, did: &Did) -> Result<Lookup, ServiceError> {
        // Not through the cache: there it might join a read that began before this call.
        let read = self.load(did).await?;
        self.cache.insert(did.clone(), read.clone()).await;
        Ok(read.lookup)
    }

    /// Stores or replaces a DID's key.
    pub async fn put(&self, new: NewDid) -> Result<PutDid, ServiceError> {
        if new.did.method() == did_key::METHOD && did_key::resolve(&new.did) != Ok(new.key.clone())
        {
            return Ok(PutDid::KeyMismatch);
        }
        let did = new.did.clone();
        let stored = self.store.put_did(new).await;
        self.written(&did).await;
        Ok(PutDid::Stored(stored?))
    }

    /// Forgets a DID that is not revoked.
    pub async fn forget(&self, did: &Did) -> Result<DidForgotten, ServiceError> {
        let forgotten = self.store.forget_did(did).await;
        self.written(did).await;
        Ok(forgotten?)
    }

    /// Revokes a DID for good, seen before or not, and ends its sessions before it returns. The
    /// flag is committed first: from then on no session opens and no claim is accepted, and if
    /// ending the sessions fails half-way a repeat of the call, or the job, finishes it.
    pub async fn revoke(&self, did: &Did, actor: &Actor) -> Result<Revocation, ServiceError> {
        let event = AuditEvent {
            actor: actor.clone(),
            action: "did.revoke",
            subject: did.to_string(),
            detail: json!({}),
        };
        let revoked = self.store.revoke_did(did, event).await;
        self.written(did).await;
        let revoked_at = revoked?.revoked_at;
        let sessions_ended = end_sessions(&self.store, &self.metrics, Some(did), actor).await?;
        Ok(Revocation { revoked_at, sessions_ended })
    }

    pub async fn list(
        &self,
        filter: &DidFilter,
        page: &PageRequest,
    ) -> Result<Page<DidRecord>, ServiceError> {
        Ok(self.store.list_dids(filter, page).await?)
    }

    /// Forgets everything cached: the database was changed by somebody else.
    pub fn invalidate_all(&self) {
        for slot in &self.epochs.slots {
            slot.fetch_add(1, Ordering::SeqCst);
        }
        self.cache.invalidate_all();
    }

    /// A write to this DID may have been committed.
    async fn written(&self, did: &Did) {
        self.epochs.advance(did);
        self.cache.invalidate(did).await;
    }

    async fn load(&self, did: &Did) -> Result<Cached, ServiceError> {
        let epoch = self.epochs.current(did);
        let lookup = self.look_up(did).await;
        let result = match &lookup {
            Ok(Lookup::Found(_)) => "found",
            Ok(Lookup::NotFound) => "not_found",
            Ok(Lookup::Unresolvable(_)) => "unresolvable",
            Err(_) => "error",
        };
        self.metrics.did_cache_loads.with_label_values(&[result]).inc();
        Ok(Cached { lookup: lookup?, epoch, loaded_at: Instant::now() })
    }

    async fn look_up(&self, did: &Did) -> Result<Lookup, ServiceError> {
        let record = self.store.did(did).await?;
        let computed = if did.method() == did_key::METHOD {
            match did_key::resolve(did) {
                Ok(key) => Some(key),
                Err(error) if record.is_none() => {
                    return Ok(Lookup::Unresolvable(error.to_string()));
                }
                Err(_) => None, // a malformed did:key that was revoked stays known as revoked
            }
        } else {
            None
        };
        if record.is_none() && computed.is_none() {
            return Ok(Lookup::NotFound);
        }
        let source = match (&computed, &record) {
            (Some(_), _) => "key".to_owned(),
            (None, Some(DidRecord { source: Some(source), .. })) => source.clone(),
            (None, _) => "revoked".to_owned(),
        };
        let key = computed.or_else(|| record.as_ref().and_then(|record| record.key.clone()));
        let method = key.clone().map(|key| method(did, key)).transpose()?;
        let fetched_at = self.clock.now();
        Ok(Lookup::Found(Arc::new(ResolvedDid {
            did: did.clone(),
            key,
            verification_methods: method.into_iter().collect(),
            owner_address: record.as_ref().and_then(|record| record.owner_address.clone()),
            revoked_at: record.as_ref().and_then(|record| record.revoked_at),
            source,
            fetched_at,
            stale_at: fetched_at + self.cache_ttl,
            created_at: record.as_ref().map(|record| record.created_at),
            updated_at: record.as_ref().map(|record| record.updated_at),
        })))
    }
}

fn method(did: &Did, key: PublicKey) -> Result<VerificationMethod, ServiceError> {
    let verifying_key = VerifyingKey::new(&key)
        .map_err(|error| ServiceError::Internal(format!("the key of {did}: {error}")))?;
    Ok(VerificationMethod { id: method_id(did), key, verifying_key })
}

/// The DID URL of a DID's only key. A did:key names it by the key itself, as its method says.
fn method_id(did: &Did) -> String {
    if did.method() == did_key::METHOD {
        format!("{did}#{}", did.method_specific_id())
    } else {
        format!("{did}#key-1")
    }
}

/// Ends, batch by batch, the live sessions of `did`, or of every revoked DID.
pub(crate) async fn end_sessions(
    store: &Store,
    metrics: &Metrics,
    did: Option<&Did>,
    actor: &Actor,
) -> Result<u64, ServiceError> {
    let event = AuditEvent {
        actor: actor.clone(),
        action: "sessions.end",
        subject: did.map_or_else(|| "revoked DIDs".to_owned(), Did::to_string),
        detail: json!({ "reason": EndReason::DidRevoked.as_str() }),
    };
    let mut total = 0;
    loop {
        let ended = store.end_sessions_of_revoked(did, Some(event.clone()), END_BATCH).await?;
        metrics.sessions_ended(EndReason::DidRevoked, ended);
        total += ended;
        if ended < u64::from(END_BATCH) {
            return Ok(total);
        }
    }
}
