//! DIDs: their keys through the cache, and their revocation.
//!
//! A read goes cache → database → resolver, once for everybody who asks at the same time. What
//! decides a claim never reads the cache: an instance that has not heard of a revocation yet
//! refuses all the same.
//!
//! Anybody can send a message that names any DID. So what was read for a message is stored only
//! when its signature has verified ([`Dids::keep`]): until then it is nowhere but in a small part
//! of the cache. What has no row has no say either: a DID of which nothing is stored is not
//! revoked here because its home says so, since it has signed nothing here.

mod asker;
mod cache;
mod load;
mod resolved;
mod seldom;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::journal::{Journal, key_data};
use super::{ServiceError, event};
use crate::clock::Clock;
use crate::config;
use crate::domain::{
    Actor, Did, DidFilter, DidForgotten, DidRecord, DidStored, EndReason, NewDid, OwnType, Page,
    PageRequest, Timestamp,
};
use crate::metrics::Metrics;
use crate::resolvers::{Reader, Resolvers, did_key};
use crate::storage::{Act, Store};

pub use asker::Asker;
use cache::{DidCache, Freshness, Loaded};
use load::{Found, Loader};
pub use resolved::{Lookup, ResolvedDid, VerificationMethod};

/// Sessions ended in one transaction when their party is revoked.
const END_BATCH: u32 = 500;

/// The DIDs. Clones share the cache.
#[derive(Clone)]
pub struct Dids {
    store: Store,
    metrics: Arc<Metrics>,
    cache: DidCache,
    loader: Loader,
    /// Without one, a recovery cannot learn again what was revoked here.
    journal: Option<Journal>,
}

/// What came of storing a DID by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum PutDid {
    Stored(DidStored),
    /// A did:key must be stored with the key that it is.
    KeyMismatch,
    /// It is read from where it lives, by the resolver of this name.
    HasHome(&'static str),
}

/// What came of revoking a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    pub revoked_at: Timestamp,
    pub sessions_ended: u64,
}

impl Dids {
    #[must_use]
    pub fn new(
        store: Store,
        resolvers: Resolvers,
        config: &config::Dids,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            cache: DidCache::new(config, metrics.clone()),
            loader: Loader::new(store.clone(), resolvers, config, clock),
            store,
            metrics,
            journal: None,
        }
    }

    /// Writes revocations and replaced keys to this journal, too.
    #[must_use]
    pub fn journaled(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// What is known of a DID, at most `max_age` old when that is given: zero reads it from its
    /// home now.
    ///
    /// # Errors
    /// [`ServiceError::Upstream`] when its home cannot be asked and nothing that was read before
    /// will do, [`ServiceError::NoPlace`] when it is not asked now; [`ServiceError::RateLimited`]
    /// when `max_age` forces a fresh read within the refresh interval of the last one.
    pub async fn get(
        &self,
        did: &Did,
        max_age: Option<Duration>,
        asker: Asker,
    ) -> Result<Lookup, ServiceError> {
        let freshness = Freshness::new(max_age);
        let lookup = self.cache.get(did, &freshness, || self.load(did, &freshness, asker)).await;
        match lookup {
            // What is stored now is what others will be told.
            Ok(Lookup::Found(found))
                if matches!(asker, Asker::Trusted(_)) && self.keep(&found).await? =>
            {
                let any = Freshness::new(None);
                Box::pin(self.cache.get(did, &any, || self.load(did, &any, asker))).await
            }
            // For this caller there is no place; what was read before may do.
            Err(ServiceError::NoPlace { full, known: true }) => {
                Box::pin(self.loader.without_asking(did, &freshness, full)).await
            }
            lookup => lookup,
        }
    }

    /// Remembers a DID that is in use from now on: a signature of its has verified, or a caller
    /// with a credential asked for it. Costs nothing when it is remembered already.
    ///
    /// Returns whether this call was the first.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn keep(&self, resolved: &ResolvedDid) -> Result<bool, ServiceError> {
        if !resolved.keep() {
            return Ok(false);
        }
        // On the heap: this happens once for a DID.
        let kept = Box::pin(self.keep_new(resolved)).await;
        if kept.is_err() {
            resolved.keep_later();
        }
        kept.map(|()| true)
    }

    async fn keep_new(&self, resolved: &ResolvedDid) -> Result<(), ServiceError> {
        if self.loader.store_reading(resolved).await? {
            // What is stored may be newer, or revoked.
            self.cache.changed(&resolved.did).await;
        } else {
            // It is its own home.
            self.cache.keep(&resolved.did).await;
        }
        Ok(())
    }

    /// What reads DIDs here.
    #[must_use]
    pub fn readers(&self) -> Vec<Reader> {
        self.loader.readers()
    }

    /// Whether DIDs of this one's method are read from where they live, or say themselves what
    /// their key is. Those of other methods are known only if they were stored by hand.
    #[must_use]
    pub fn reads_method_of(&self, did: &Did) -> bool {
        did.method() == did_key::METHOD || self.loader.home(did).is_some()
    }

    /// Stores or replaces the key of a DID that no resolver reads, on behalf of `actor`.
    pub async fn put(&self, new: NewDid, actor: Actor) -> Result<PutDid, ServiceError> {
        if let Some(home) = self.loader.home(&new.did) {
            return Ok(PutDid::HasHome(home.source));
        }
        if new.did.method() == did_key::METHOD && did_key::resolve(&new.did) != Ok(new.key.clone())
        {
            return Ok(PutDid::KeyMismatch);
        }
        let did = new.did.clone();
        // The key itself may be replaced again: an operator finds here which one it was.
        let event = event(OwnType::DidStored, actor, &did, &key_data(&new));
        let stored = self.store.put_did(new.clone(), event).await;
        self.cache.changed(&did).await;
        let stored = stored?;
        if let (Some(journal), DidStored::Replaced(record)) = (&self.journal, &stored) {
            journal.write(record.updated_at, Act::ReplaceKey(new)).await;
        }
        Ok(PutDid::Stored(stored))
    }

    /// Forgets a DID that is not revoked, on behalf of `actor`.
    pub async fn forget(&self, did: &Did, actor: Actor) -> Result<DidForgotten, ServiceError> {
        let event = event(OwnType::DidForgotten, actor, did, &json!({}));
        let forgotten = self.store.forget_did(did, event).await;
        self.cache.changed(did).await;
        Ok(forgotten?)
    }

    /// Revokes a DID for good, seen before or not, and ends its sessions before it returns. The
    /// flag is committed first: from then on no session opens and no claim is accepted, and if
    /// ending the sessions fails half-way a repeat of the call, or the job, finishes it.
    pub async fn revoke(&self, did: &Did, actor: &Actor) -> Result<Revocation, ServiceError> {
        let began = Instant::now();
        let event = event(OwnType::DidRevoked, actor.clone(), did, &json!({}));
        let revoked = self.store.revoke_did(did, event).await;
        self.cache.changed(did).await;
        let revoked_at = revoked?.revoked_at;
        let here = self.metrics.revocation_seconds.with_label_values(&["here"]);
        here.observe(began.elapsed().as_secs_f64());
        if let Some(journal) = &self.journal {
            journal.write(revoked_at, Act::RevokeDid(did.clone())).await;
        }
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

    /// Somebody else has changed what is stored of a DID.
    pub async fn changed(&self, did: &Did) {
        self.cache.changed(did).await;
    }

    /// Somebody else may have changed anything.
    pub fn all_changed(&self) {
        self.cache.all_changed();
    }

    /// Whether changes by others are heard. While they are not, every call reads the database.
    pub fn trust(&self, heard: bool) {
        self.cache.trust(heard);
    }

    async fn load(
        &self,
        did: &Did,
        freshness: &Freshness,
        asker: Asker,
    ) -> Result<Loaded, ServiceError> {
        loop {
            match self.loader.load(did, freshness, asker).await? {
                Found::Loaded(loaded) => return Ok(loaded),
                // Then what is stored says so.
                Found::RevokedAtHome(home) => {
                    self.revoke(did, &Actor::Resolver(home.source)).await?;
                }
            }
        }
    }
}

/// Ends, batch by batch, the live sessions of `did`, or of every revoked DID.
pub(crate) async fn end_sessions(
    store: &Store,
    metrics: &Metrics,
    did: Option<&Did>,
    actor: &Actor,
) -> Result<u64, ServiceError> {
    let event = event(
        OwnType::SessionsEnded,
        actor.clone(),
        did.map_or_else(|| "revoked DIDs".to_owned(), Did::to_string),
        &json!({ "reason": EndReason::DidRevoked.as_str() }),
    );
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
