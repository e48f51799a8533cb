//! Places of the log, kept as runs: as many as there are gaps, and not as there are places.

use std::collections::BTreeMap;

/// A set of places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<u64, u64>);

impl Places {
    /// Adds a place that comes after all that are there.
    pub fn add(&mut self, place: u64) {
        match self.0.last_entry() {
            Some(mut run) if run.get().checked_add(1) == Some(place) => *run.get_mut() = place,
            _ => {
                self.0.insert(place, place);
            }
        }
    }

    /// Removes these places, and returns how many of them were there.
    pub fn remove(&mut self, from: u64, to: u64) -> u64 {
        let mut removed = 0;
        // No places lie between these.
        if from > to {
            return removed;
        }
        while let Some((first, last)) = self.last_run_until(to).filter(|(_, last)| *last >= from) {
            self.0.remove(&first);
            if first < from {
                self.0.insert(first, from - 1);
            }
            if last > to {
                self.0.insert(to + 1, last);
            }
            removed += last.min(to) - first.max(from) + 1;
        }
        removed
    }

    fn last_run_until(&self, place: u64) -> Option<(u64, u64)> {
        self.0.range(..=place).next_back().map(|(first, last)| (*first, *last))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each place, in order.
    pub fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs().flat_map(|(first, last)| first..=last)
    }

    /// The runs, each by its first and its last place, in order.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

impl FromIterator<u64> for Places {
    /// Of places in their order.
    fn from_iter<I: IntoIterator<Item = u64>>(places: I) -> Self {
        let mut all = Self::default();
        places.into_iter().for_each(|place| all.add(place));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(places: &Places) -> Vec<(u64, u64)> {
        places.runs().collect()
    }

    #[test]
    fn places_side_by_side_are_one_run() {
        let places: Places = [1, 2, 3, 5, 8, 9].into_iter().collect();
        assert_eq!(runs(&places), [(1, 3), (5, 5), (8, 9)]);
        assert_eq!(places.all().collect::<Vec<_>>(), [1, 2, 3, 5, 8, 9]);
        assert!(!places.is_empty() && Places::default().is_empty());
        let last: Places = [u64::MAX - 1, u64::MAX].into_iter().collect();
        assert_eq!(runs(&last), [(u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn what_is_removed_is_counted_once_and_leaves_the_rest() {
        let all: Places = (1..=10).chain(20..=30).collect();
        for (from, to, removed, left) in [
            (1, 30, 21, vec![]),
            (3, 4, 2, vec![(1, 2), (5, 10), (20, 30)]),
            (8, 22, 6, vec![(1, 7), (23, 30)]),
            (11, 19, 0, vec![(1, 10), (20, 30)]),
            (0, 1, 1, vec![(2, 10), (20, 30)]),
            (30, u64::MAX, 1, vec![(1, 10), (20, 29)]),
            (0, u64::MAX, 21, vec![]),
            (9, 2, 0, vec![(1, 10), (20, 30)]),
        ] {
            let mut places = all.clone();
            let counted = places.remove(from, to);
            assert_eq!((counted, runs(&places)), (removed, left), "{from} to {to}");
            assert_eq!(places.remove(from, to), 0);
        }
    }
}
