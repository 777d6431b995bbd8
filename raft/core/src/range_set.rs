//! A set of numbers as disjoint runs: the free addresses of a pool, however large, in memory that grows only
//! with the number of gaps.

use alloc::collections::BTreeMap;

/// Numbers as runs `start..=stop`, disjoint and never adjacent. Every operation is O(log runs).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    runs: BTreeMap<u128, u128>,
}

impl RangeSet {
    /// Adds the run `start..=stop`, which must not overlap what is in the set.
    pub fn insert_run(&mut self, start: u128, stop: u128) {
        debug_assert!(start <= stop && self.run_of(start).is_none() && self.run_of(stop).is_none());
        let (mut start, mut stop) = (start, stop);
        if let Some((&s, &e)) = self.runs.range(..start).next_back()
            && e.checked_add(1) == Some(start)
        {
            self.runs.remove(&s);
            start = s;
        }
        if let Some(next) = stop.checked_add(1)
            && let Some(e) = self.runs.remove(&next)
        {
            stop = e;
        }
        self.runs.insert(start, stop);
    }

    /// Adds those of the run `start..=stop` that are not in the set.
    pub fn insert_missing(&mut self, start: u128, stop: u128) {
        let mut from = start;
        loop {
            if let Some((_, end)) = self.run_of(from) {
                match end.checked_add(1) {
                    Some(next) if next <= stop => from = next,
                    Some(_) | None => return,
                }
            }
            let next = self.runs.range(from..=stop).next().map(|(start, _)| *start);
            match next {
                Some(next) => self.insert_run(from, next - 1),
                None => return self.insert_run(from, stop),
            }
        }
    }

    /// Removes `n`; whether it was there.
    pub fn remove(&mut self, n: u128) -> bool {
        let Some((start, stop)) = self.run_of(n) else {
            return false;
        };
        self.runs.remove(&start);
        if start < n {
            self.runs.insert(start, n - 1);
        }
        if n < stop {
            self.runs.insert(n + 1, stop);
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
        self.runs.keys().next().copied()
    }

    /// How many numbers, `None` when more than `u128` counts (all of IPv6).
    #[must_use]
    pub fn len(&self) -> Option<u128> {
        self.runs.iter().try_fold(0u128, |sum, (start, stop)| {
            sum.checked_add((stop - start).checked_add(1)?)
        })
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn run_of(&self, n: u128) -> Option<(u128, u128)> {
        self.runs
            .range(..=n)
            .next_back()
            .filter(|(_, stop)| **stop >= n)
            .map(|(start, stop)| (*start, *stop))
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
                prop_assert!(runs.runs.iter().all(|(_, stop)| !runs.runs.contains_key(&(stop + 1))));
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
