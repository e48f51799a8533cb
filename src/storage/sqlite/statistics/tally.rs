//! How many nonces sessions hold, without a count each time. They are counted once; afterwards only
//! the added and removed ones are counted. It is an estimate for gauges, and decides nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::storage::sqlite::types::stored;

const UNKNOWN: i64 = i64::MIN;

pub(crate) struct NonceTally {
    /// The count, minus the changes before it.
    base: AtomicI64,
    /// Added minus removed, since the start.
    changes: AtomicI64,
}

impl NonceTally {
    pub(crate) fn new() -> Self {
        Self { base: AtomicI64::new(UNKNOWN), changes: AtomicI64::new(0) }
    }

    pub(crate) fn add(&self, nonces: i64) {
        self.changes.fetch_add(nonces, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, nonces: u64) {
        self.add(-stored(nonces));
    }

    /// Another process changed the database, so the count is no longer valid.
    pub(crate) fn forget(&self) {
        self.base.store(UNKNOWN, Ordering::Relaxed);
    }

    /// The number of nonces. Calls `count` when it is not known.
    pub(crate) fn get<E>(&self, count: impl FnOnce() -> Result<i64, E>) -> Result<i64, E> {
        let mut base = self.base.load(Ordering::Relaxed);
        if base == UNKNOWN {
            let before = self.changes.load(Ordering::Relaxed);
            base = count()? - before;
            self.base.store(base, Ordering::Relaxed);
        }
        Ok((base + self.changes.load(Ordering::Relaxed)).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_once_and_then_follows_the_changes() {
        let tally = NonceTally::new();
        tally.add(5);
        assert_eq!(tally.get(|| Ok::<_, ()>(100)), Ok(100));
        tally.add(7);
        tally.remove(2);
        assert_eq!(tally.get(|| Err("counted twice")), Ok(105));
        tally.forget();
        assert_eq!(tally.get(|| Ok::<_, ()>(3)), Ok(3));
    }
}
