//! When batches of claims go around the quick statement, which inserts or leaves over, and never
//! refuses: while it leaves claims over, trying it first is work done twice.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many batches are judged at once, without the quick statement: as many as it left claims
/// over in a row, doubled each time. A duplicate is the dearest, and the one that a stranger can
/// bring about: the longest detour follows.
#[derive(Debug)]
pub(super) struct Detour {
    left: AtomicU32,
    next: AtomicU32,
}

impl Default for Detour {
    fn default() -> Self {
        Self { left: AtomicU32::new(0), next: AtomicU32::new(1) }
    }
}

impl Detour {
    const LONGEST: u32 = 1024;

    /// Whether this batch takes it.
    pub(super) fn is_on(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    pub(super) fn after(&self, all_inserted: bool) {
        if all_inserted {
            self.next.store(1, Ordering::Relaxed);
        } else {
            let next = self.next.load(Ordering::Relaxed);
            self.left.store(next, Ordering::Relaxed);
            self.next.store((2 * next).min(Self::LONGEST), Ordering::Relaxed);
        }
    }

    pub(super) fn after_duplicate(&self) {
        self.left.store(Self::LONGEST, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many batches take it until one does not.
    fn length(detour: &Detour) -> usize {
        std::iter::repeat_with(|| detour.is_on()).take_while(|on| *on).count()
    }

    #[test]
    fn a_detour_doubles_while_claims_are_left_over() {
        let detour = Detour::default();
        assert_eq!(length(&detour), 0);
        for expected in [1, 2, 4, 8] {
            detour.after(false);
            assert_eq!(length(&detour), expected);
        }
        detour.after(true);
        assert_eq!(length(&detour), 0);
        detour.after(false);
        assert_eq!(length(&detour), 1);
        for _ in 0..20 {
            detour.after(false);
        }
        assert_eq!(length(&detour), 1024);
    }

    #[test]
    fn a_duplicate_is_followed_by_the_longest_detour() {
        let detour = Detour::default();
        detour.after_duplicate();
        assert_eq!(length(&detour), 1024);
        assert_eq!(length(&detour), 0);
    }
}
