//! A set of numbers as disjoint runs: the free addresses of a pool, however large, in memory that grows only
//! with the number of gaps.

use alloc::collections::BTreeMap;

/// Numbers as runs, disjoint and never adjacent. Every operation is O(log runs).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// The first number of each run by its last: so the lowest number, which pools hand out, is taken in place.
    runs: BTreeMap<u128, u128>,
    /// How many numbers, modulo 2^128.
    count: u128,
}

impl RangeSet {
    /// Adds the run `start..=stop`, which must not overlap what is in the set.
    pub fn insert_run(&mut self, start: u128, stop: u128) {
        debug_assert!(start <= stop && self.run_of(start).is_none() && self.run_of(stop).is_none());
        self.count = self.count.wrapping_add(stop - start).wrapping_add(1);
        let below = start.checked_sub(1).and_then(|n| self.runs.remove(&n));
        let from = below.unwrap_or(start);
        let above = self.runs.range_mut(stop..).next();
        match above {
            Some((_, first)) if stop.checked_add(1) == Some(*first) => *first = from,
            Some(_) | None => {
                self.runs.insert(stop, from);
            }
        }
    }

    /// Adds those of the run `start..=stop` that are not in the set.
    pub fn insert_missing(&mut self, start: u128, stop: u128) {
        let mut from = start;
        loop {
            let next = self.runs.range(from..).next();
            match next.map(|(last, first)| (*first, *last)) {
                // All up to `last` is there.
                Some((first, last)) if first <= from => match last.checked_add(1) {
                    Some(next) if next <= stop => from = next,
                    Some(_) | None => return,
                },
                Some((first, _)) if first <= stop => {
                    self.insert_run(from, first - 1);
                    from = first;
                }
                Some(_) | None => return self.insert_run(from, stop),
            }
        }
    }

    /// Removes `n`; whether it was there.
    pub fn remove(&mut self, n: u128) -> bool {
        // What pools hand out is mostly the lowest, and needs no search.
        if let Some(mut lowest) = self.runs.first_entry()
            && *lowest.get() == n
        {
            self.count = self.count.wrapping_sub(1);
            match n < *lowest.key() {
                true => *lowest.get_mut() = n + 1,
                false => drop(lowest.remove()),
            }
            return true;
        }
        let run = self.runs.range_mut(n..).next();
        let Some((last, first)) = run.filter(|(_, first)| **first <= n) else {
            return false;
        };
        let (start, stop) = (*first, *last);
        self.count = self.count.wrapping_sub(1);
        if n < stop {
            *first = n + 1;
        } else {
            self.runs.remove(&stop);
        }
        if start < n {
            self.runs.insert(n - 1, start);
        }
        true
    }

    /// Whether `n` is in the set.
    #[must_use]
    pub fn contains(&self, n: u128) -> bool {
        self.run_of(n).is_some()
    }

    /// The smallest number.
    #[must_use]
    pub fn first(&self) -> Option<u128> {
        self.runs.first_key_value().map(|(_, first)| *first)
    }

    /// The smallest number that is `n` or greater.
    #[must_use]
    pub fn first_from(&self, n: u128) -> Option<u128> {
        let (_, first) = self.runs.range(n..).next()?;
        Some((*first).max(n))
    }

    /// How many numbers, `None` when more than `u128` counts (all of IPv6).
    #[must_use]
    pub fn len(&self) -> Option<u128> {
        Some(self.count).filter(|count| *count > 0 || self.is_empty())
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn run_of(&self, n: u128) -> Option<(u128, u128)> {
        let (last, first) = self.runs.range(n..).next()?;
        (*first <= n).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_set(steps in prop::collection::vec((0u8..3, 0u128..40, 0u128..9), 0..200)) {
            let (mut runs, mut plain) = (RangeSet::default(), BTreeSet::new());
            for (what, n, more) in steps {
                if what == 0 {
                    if plain.insert(n) {
                        runs.insert_run(n, n);
                    }
                } else if what == 1 {
                    runs.insert_missing(n, n + more);
                    plain.extend(n..=n + more);
                } else {
                    prop_assert_eq!(runs.remove(n), plain.remove(&n));
                }
                prop_assert_eq!(runs.first(), plain.first().copied());
                prop_assert_eq!(runs.len(), Some(plain.len() as u128));
                prop_assert!((0..50).all(|i| runs.contains(i) == plain.contains(&i)));
                // Runs that touch are merged, so memory follows the number of gaps.
                prop_assert!(runs.runs.values().all(|first| *first == 0 || !runs.runs.contains_key(&(first - 1))));
                prop_assert_eq!(runs.is_empty(), plain.is_empty());
            }
        }
    }

    #[test]
    fn all_of_ipv6_is_one_run_whose_length_is_not_a_number() {
        let mut set = RangeSet::default();
        set.insert_run(0, u128::MAX);
        assert_eq!(set.len(), None);
        assert!(set.remove(u128::MAX) && set.remove(0));
        assert_eq!(set.len(), Some(u128::MAX - 1));
    }
}
