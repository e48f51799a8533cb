//! A home that gave nothing that can be used: what was read last may do for a while.

use std::sync::Arc;
use std::time::Duration;

use super::super::asker::Asker;
use super::super::cache::{Freshness, Loaded};
use super::super::resolved::{Lookup, ResolvedDid, Times};
use super::times::{age, holds_document, since};
use super::{Loader, Silence, loaded};
use crate::domain::{Did, DidRecord};
use crate::resolvers::Full;
use crate::services::ServiceError;

/// How soon a home that could not be asked is asked again, while what was read last is served.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl Loader {
    /// What was read last, however long ago, if the caller did not ask for better.
    pub(super) fn unreachable(
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
    pub(in crate::services::dids) async fn without_asking(
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
}
