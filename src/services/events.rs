//! The log of events, as callers publish into it and read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;
use sha2::{Digest as _, Sha256};

use super::ServiceError;
use crate::config;
use crate::domain::{
    Event, EventCursor, EventFilter, EventPage, IdempotencyDigest, NewEvent, PageFiller,
    PublicationKey, Published,
};
use crate::metrics::Metrics;
use crate::storage::Store;

const WINDOW: Duration = Duration::from_mins(1);
/// Callers whose minutes are counted at the same time.
const WINDOWS: u64 = 10_000;
/// About the bytes of an event in a page, without its data.
const BYTES_OF_EVENT: usize = 512;

/// Clones share the counts.
#[derive(Clone)]
pub struct Events {
    store: Store,
    metrics: Arc<Metrics>,
    per_minute: u64,
    minutes: Cache<[u8; 16], Arc<Minute>>,
}

struct Minute {
    began: Instant,
    events: AtomicU64,
}

/// A caller may not publish so many events now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyEvents {
    /// In a minute.
    pub most: u64,
    /// When it is worth another try.
    pub wait: Duration,
}

impl Events {
    #[must_use]
    pub fn new(store: Store, config: &config::Events, metrics: Arc<Metrics>) -> Self {
        let minutes = Cache::builder().max_capacity(WINDOWS).time_to_live(WINDOW).build();
        Self { store, metrics, per_minute: config.per_minute, minutes }
    }

    /// Counts events that this caller wants to publish.
    ///
    /// # Errors
    /// When they are too many. Then they do not count.
    pub async fn may_publish(&self, caller: &[u8; 16], count: usize) -> Result<(), TooManyEvents> {
        let new = async { Arc::new(Minute { began: Instant::now(), events: AtomicU64::new(0) }) };
        let minute = self.minutes.get_with(*caller, new).await;
        let (count, most) = (u64::try_from(count).unwrap_or(u64::MAX), self.per_minute);
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let counted = minute.events.fetch_update(success, failure, |before| {
            before.checked_add(count).filter(|after| *after <= most)
        });
        if counted.is_ok() {
            return Ok(());
        }
        self.metrics.refused("events", "minute");
        Err(TooManyEvents { most, wait: WINDOW.saturating_sub(minute.began.elapsed()) })
    }

    /// Writes all events, or none. With a key, a repeat of the call writes nothing.
    pub async fn publish(
        &self,
        events: Vec<NewEvent>,
        key: Option<IdempotencyDigest>,
    ) -> Result<Published, ServiceError> {
        let Some(digest) = key else {
            let ids = self.store.publish(events).await?;
            self.metrics.events.published.inc_by(ids.len() as u64);
            return Ok(Published::Done { ids, repeated: false });
        };
        let key = PublicationKey { digest, content: content(&events) };
        let published = self.store.publish_once(events, key).await?;
        if let Published::Done { ids, repeated: false } = &published {
            self.metrics.events.published.inc_by(ids.len() as u64);
        }
        Ok(published)
    }

    /// The end of the log: what a reader who goes on here gets came later.
    pub async fn end(&self) -> Result<EventCursor, ServiceError> {
        Ok(EventCursor { sequence: self.store.event_chain().await?.sequence })
    }

    /// Events after `since`, in the order of the log. A page has about [`MAX_PAGE_BYTES`] at most, and
    /// at least one event.
    ///
    /// [`MAX_PAGE_BYTES`]: crate::domain::MAX_PAGE_BYTES
    pub async fn read(
        &self,
        filter: &EventFilter,
        since: Option<EventCursor>,
        limit: u32,
    ) -> Result<EventPage, ServiceError> {
        let EventCursor { sequence: after } = since.unwrap_or_default();
        // What is linked later is not passed over.
        let end = self.end().await?;
        let mut events = self.store.events(filter, after, limit).await?;
        // The purge may have come meanwhile.
        let cut = self.store.event_chain().await?.cut_sequence;
        if since.is_some() && after < cut {
            return Ok(EventPage::CursorExpired);
        }
        let mut room = PageFiller::new(limit);
        let bytes = |event: &Event| BYTES_OF_EVENT.saturating_add(event.data.as_str().len());
        let fit = events.iter().take_while(|event| room.takes(bytes(event))).count();
        events.truncate(fit);
        let sequence = events.last().map_or(end.sequence.max(after), |last| last.sequence);
        Ok(EventPage::Page { events, next: EventCursor { sequence } })
    }
}

/// What the events say, each part preceded by its length.
fn content(events: &[NewEvent]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for event in events {
        for part in [event.kind.as_str(), &event.subject, event.data.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}
