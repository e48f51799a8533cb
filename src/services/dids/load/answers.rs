//! What a DID's home says of it: how that is kept, where something was stored before.

use std::time::{Duration, Instant};

use chrono::TimeDelta;

use super::super::asker::Asker;
use super::super::cache::{Freshness, Loaded};
use super::super::resolved::{Lookup, ResolvedDid};
use super::times::{holds_document, times};
use super::{Found, Loader, Silence, loaded};
use crate::domain::{Did, DidRecord, Gone, Timestamp};
use crate::resolvers::{self, Home, Resolution, Unusable};
use crate::services::ServiceError;
use crate::storage::{Answer, Reading};

impl Loader {
    /// What its home says of a DID of which nothing is stored. That is left so.
    pub(super) fn new_did(
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
    pub(super) async fn record(
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
    pub(in crate::services::dids) async fn store_reading(
        &self,
        read: &ResolvedDid,
    ) -> Result<bool, ServiceError> {
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
}

/// Whether a DID that was seen active was deactivated for good: it still was so in a finalized
/// block no older than what was read last.
fn is_final(seen: &DidRecord, finalized_at: Option<u64>) -> bool {
    seen.document.is_some() && seen.version.is_some_and(|seen| finalized_at >= Some(seen))
}
