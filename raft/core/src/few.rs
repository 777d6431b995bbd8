//! Lists that mostly have one item. That one lies in place, so what is done for a VIP alone asks for no memory; more lie in a
//! [`Vec`], as ever.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::iter::Chain;
use core::ops::{Deref, DerefMut};
use core::{mem, option, slice};

/// Items in their order. How they lie shows nowhere: two with the same items are equal, and encoded alike.
#[derive(Clone)]
pub enum Few<T> {
    /// One, in place.
    One(T),
    /// Any other number; or one, where there were more.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        match self {
            Self::Many(all) if all.capacity() == 0 => *self = Self::One(item),
            Self::Many(all) => all.push(item),
            Self::One(_) => {
                if let Self::One(first) = mem::take(self) {
                    *self = Self::Many(vec![first, item]);
                }
            }
        }
    }

    /// Keeps those items that are to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match self {
            Self::Many(all) => all.retain(keep),
            Self::One(item) => {
                if !keep(item) {
                    *self = Self::default();
                }
            }
        }
    }
}

impl<T: PartialEq> Few<T> {
    /// Adds an item at the end, unless it is the last one already.
    pub fn add(&mut self, item: T) {
        if self.last() != Some(&item) {
            self.push(item);
        }
    }
}

impl<T: Ord> Few<T> {
    /// Sorts them, and leaves one of those that are equal.
    pub fn sort_and_dedup(&mut self) {
        if let Self::Many(all) = self {
            all.sort_unstable();
            all.dedup();
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(item) => slice::from_ref(item),
            Self::Many(all) => all,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(item) => slice::from_mut(item),
            Self::Many(all) => all,
        }
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self[..]).finish()
    }
}

impl<T> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut few = Self::default();
        few.extend(items);
        few
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = Chain<option::IntoIter<T>, vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, more) = match self {
            Self::One(item) => (Some(item), Vec::new()),
            Self::Many(all) => (None, all),
        };
        one.into_iter().chain(more)
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Wire;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_list(steps in prop::collection::vec((0u8..4, 0u16..4), 0..30)) {
            let (mut few, mut plain) = (Few::default(), Vec::new());
            for (what, item) in steps {
                match what {
                    0 => {
                        few.retain(|other| *other != item);
                        plain.retain(|other| *other != item);
                    }
                    1 => {
                        few.sort_and_dedup();
                        plain.sort_unstable();
                        plain.dedup();
                    }
                    _ => {
                        few.push(item);
                        plain.push(item);
                    }
                }
                prop_assert_eq!(&few[..], &plain[..]);
                prop_assert_eq!(&few, &plain.iter().copied().collect::<Few<u16>>());
                prop_assert_eq!(few.clone().into_iter().collect::<Vec<_>>(), plain.clone());
                prop_assert_eq!(few.to_bytes(), plain.to_bytes());
                prop_assert_eq!(Few::from_bytes(&few.to_bytes()), Ok(few.clone()));
            }
        }
    }

    #[test]
    fn one_item_asks_for_no_memory() {
        let few: Few<u16> = [7].into_iter().collect();
        assert!(matches!(few, Few::One(7)));
    }
}
