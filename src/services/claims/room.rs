//! Whether a signer's quota has room for another nonce: a look that costs next to nothing while
//! it has, and follows the counter in the database once it may be full. Only the claim decides;
//! this spares looking at signatures of messages that cannot be accepted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;

use crate::domain::Did;
use crate::storage::Store;

/// Claims are counted by slots of signers: a slot's count is at least that of each of its signers.
const SLOTS: usize = 1 << 16;
/// How long a signer that was seen full is taken for full, before the database is asked again.
const FULL_FOR: Duration = Duration::from_secs(1);
/// The most signers whose counters are remembered, and for how long they are of use.
const MAX_SEEN: u64 = 10_000;
const SEEN_FOR: Duration = Duration::from_mins(10);

pub(super) struct Room {
    quota: u64,
    hasher: RandomState,
    /// The claims that this instance has made since it started.
    slots: Box<[AtomicU64]>,
    /// Counters of signers, as the database had them.
    seen: Cache<Did, Seen>,
}

/// What a signer's counter was.
#[derive(Debug, Clone, Copy)]
struct Seen {
    live: u64,
    /// What the slot had counted before that.
    counted: u64,
    at: Instant,
}

impl Room {
    pub(super) fn new(quota: u64) -> Self {
        Self {
            quota,
            hasher: RandomState::new(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            seen: Cache::builder().max_capacity(MAX_SEEN).time_to_idle(SEEN_FOR).build(),
        }
    }

    /// Counts a claim that was made.
    pub(super) fn count(&self, signer: &Did) {
        if let Some(slot) = self.slot(signer) {
            slot.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A claim was refused because the signer's quota is full.
    pub(super) async fn is_full(&self, signer: &Did) {
        let Some(slot) = self.slot(signer) else { return };
        // Others may have filled it: this has it looked at from now on.
        let counted = slot.fetch_max(self.quota, Ordering::Relaxed).max(self.quota);
        let seen = Seen { live: self.quota, counted, at: Instant::now() };
        self.seen.insert(signer.clone(), seen).await;
    }

    /// Whether there may be room, as far as this instance knows.
    pub(super) async fn may_be_left(&self, signer: &Did, store: &Store) -> bool {
        let counted = self.slot(signer).map_or(0, |slot| slot.load(Ordering::Relaxed));
        if counted < self.quota {
            return true;
        }
        // On the heap: this is rare.
        Box::pin(self.look(signer, counted, store)).await
    }

    async fn look(&self, signer: &Did, counted: u64, store: &Store) -> bool {
        if let Some(seen) = self.seen.get(signer).await {
            if seen.live.saturating_add(counted.saturating_sub(seen.counted)) < self.quota {
                return true;
            }
            if seen.live >= self.quota && seen.at.elapsed() < FULL_FOR {
                return false;
            }
            // Until the database has answered, other callers get the same answer as before.
            self.seen.insert(signer.clone(), Seen { at: Instant::now(), ..seen }).await;
        }
        let Ok(live) = store.live_nonces(signer.signer_key()).await else { return true };
        let seen = Seen { live, counted, at: Instant::now() };
        self.seen.insert(signer.clone(), seen).await;
        live < self.quota
    }

    fn slot(&self, signer: &Did) -> Option<&AtomicU64> {
        let hash = self.hasher.hash_one(signer);
        self.slots.get(usize::try_from(hash).unwrap_or(0) % SLOTS)
    }
}
