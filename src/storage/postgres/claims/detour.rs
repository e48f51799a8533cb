//! When batches of claims go around the quick statement, which accepts or leaves over, and never
//! refuses: while it leaves claims over, trying it first is work done twice.

use std::sync::atomic::{AtomicU32, Ordering};

/// After a miss, one batch skips the quick statement, twice as many after each further miss. A full
/// hit resets this.
#[derive(Debug)]
pub(crate) struct Detour {
    /// Batches that still go around it.
    remaining: AtomicU32,
    next_length: AtomicU32,
}

impl Default for Detour {
    fn default() -> Self {
        Self { remaining: AtomicU32::new(0), next_length: AtomicU32::new(1) }
    }
}

impl Detour {
    /// About a second of a busy instance.
    const LONGEST: u32 = 1024;

    /// Whether this batch goes around the quick statement; it is one of those that remain.
    pub(super) fn takes_this_batch(&self) -> bool {
        let one_less = |remaining: u32| remaining.checked_sub(1);
        self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    pub(super) fn after_none_left(&self) {
        self.next_length.store(1, Ordering::Relaxed);
    }

    pub(super) fn after_some_left(&self) {
        let double = |length: u32| Some((2 * length).min(Self::LONGEST));
        let length = self.next_length.fetch_update(Ordering::Relaxed, Ordering::Relaxed, double);
        self.remaining.fetch_max(length.unwrap_or(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many batches go around until one does not.
    fn length(detour: &Detour) -> usize {
        std::iter::repeat_with(|| detour.takes_this_batch()).take_while(|takes| *takes).count()
    }

    #[test]
    fn a_detour_doubles_while_claims_are_left_over() {
        let detour = Detour::default();
        assert_eq!(length(&detour), 0);
        for expected in [1, 2, 4, 8] {
            detour.after_some_left();
            assert_eq!(length(&detour), expected);
        }
        detour.after_none_left();
        assert_eq!(length(&detour), 0);
        detour.after_some_left();
        assert_eq!(length(&detour), 1);
        for _ in 0..20 {
            detour.after_some_left();
        }
        assert_eq!(length(&detour), 1024);
    }
}
