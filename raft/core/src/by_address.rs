//! Maps by address: one for each family, whose numbers are compared as such. A search in them spends its time with comparisons
//! and in memory, and to compare two addresses, each of which may be of either family, takes four times as long.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::block::{Family, number};
use crate::codec::{DecodeError, Reader, Wire, Writer};

/// Values by address; in the order of addresses, which is all of IPv4 before all of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByAddress<V> {
    v4: BTreeMap<u32, V>,
    v6: BTreeMap<u128, V>,
}

impl<V> Default for ByAddress<V> {
    fn default() -> Self {
        Self {
            v4: BTreeMap::new(),
            v6: BTreeMap::new(),
        }
    }
}

impl<V> ByAddress<V> {
    /// What an address has.
    #[must_use]
    pub fn get(&self, address: &IpAddr) -> Option<&V> {
        match address {
            IpAddr::V4(v4) => self.v4.get(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get(&v6.to_bits()),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, address: &IpAddr) -> Option<&mut V> {
        match address {
            IpAddr::V4(v4) => self.v4.get_mut(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get_mut(&v6.to_bits()),
        }
    }

    /// Whether an address has anything.
    #[must_use]
    pub fn contains_key(&self, address: &IpAddr) -> bool {
        self.get(address).is_some()
    }

    /// Gives an address a value; what it had.
    pub fn insert(&mut self, address: IpAddr, value: V) -> Option<V> {
        match address {
            IpAddr::V4(v4) => self.v4.insert(v4.to_bits(), value),
            IpAddr::V6(v6) => self.v6.insert(v6.to_bits(), value),
        }
    }

    /// Gives an address a value if it has none; whether it had none.
    pub fn insert_new(&mut self, address: IpAddr, make: impl FnOnce() -> V) -> bool {
        fn vacant<K: Ord, V>(slot: Entry<'_, K, V>, make: impl FnOnce() -> V) -> bool {
            match slot {
                Entry::Occupied(_) => false,
                Entry::Vacant(slot) => {
                    slot.insert(make());
                    true
                }
            }
        }
        match address {
            IpAddr::V4(v4) => vacant(self.v4.entry(v4.to_bits()), make),
            IpAddr::V6(v6) => vacant(self.v6.entry(v6.to_bits()), make),
        }
    }

    /// Takes what an address has.
    pub fn remove(&mut self, address: &IpAddr) -> Option<V> {
        match address {
            IpAddr::V4(v4) => self.v4.remove(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.remove(&v6.to_bits()),
        }
    }

    /// All addresses with what they have.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &V)> + Clone {
        let v4 = self.v4.iter();
        let v6 = self.v6.iter();
        let v4 = v4.map(|(n, value)| (Ipv4Addr::from_bits(*n).into(), value));
        v4.chain(v6.map(|(n, value)| (Ipv6Addr::from_bits(*n).into(), value)))
    }

    /// All addresses that have something.
    pub fn keys(&self) -> impl Iterator<Item = IpAddr> + Clone {
        self.iter().map(|(address, _)| address)
    }

    /// All that they have.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.v4.values().chain(self.v6.values())
    }

    /// Those addresses from `start` to `stop`, both of one family, that have something.
    pub fn within(&self, start: IpAddr, stop: IpAddr) -> impl Iterator<Item = IpAddr> {
        let numbers = number(start)..=number(stop);
        let (v4, v6) = match Family::of(start) {
            Family::V4 => {
                let v4 = |n: u128| u32::try_from(n).unwrap_or(u32::MAX);
                let numbers = v4(*numbers.start())..=v4(*numbers.end());
                (Some(self.v4.range(numbers)), None)
            }
            Family::V6 => (None, Some(self.v6.range(numbers))),
        };
        let v4 = v4.into_iter().flatten();
        let v4 = v4.map(|(n, _)| Ipv4Addr::from_bits(*n).into());
        let v6 = v6.into_iter().flatten();
        v4.chain(v6.map(|(n, _)| Ipv6Addr::from_bits(*n).into()))
    }

    /// How many addresses have something.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// What an address has; for tests, which know that it has something.
#[cfg(test)]
impl<V> core::ops::Index<&IpAddr> for ByAddress<V> {
    type Output = V;

    fn index(&self, address: &IpAddr) -> &V {
        self.get(address).expect("the address has something")
    }
}

impl<V> FromIterator<(IpAddr, V)> for ByAddress<V> {
    fn from_iter<I: IntoIterator<Item = (IpAddr, V)>>(items: I) -> Self {
        let mut all = Self::default();
        for (address, value) in items {
            all.insert(address, value);
        }
        all
    }
}

/// As a map of addresses is encoded.
impl<V: Wire> Wire for ByAddress<V> {
    fn encode(&self, out: &mut Writer) {
        out.count(self.len());
        for (address, value) in self.iter() {
            address.encode(out);
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = input.count()?;
        (0..n)
            .map(|_| Ok((IpAddr::decode(input)?, V::decode(input)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn address(six: bool, n: u8) -> IpAddr {
        match six {
            false => IpAddr::from([10, 0, 0, n]),
            true => IpAddr::from((0xfd << 120 | u128::from(n)).to_be_bytes()),
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_map(steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0u8..20), 0..100)) {
            let (mut by, mut plain) = (ByAddress::default(), BTreeMap::new());
            for (i, (take, six, n)) in (0u32..).zip(steps) {
                let at = address(six, n);
                prop_assert_eq!(by.get(&at), plain.get(&at));
                match take {
                    true => prop_assert_eq!(by.remove(&at), plain.remove(&at)),
                    false if n % 2 == 0 => prop_assert_eq!(by.insert(at, i), plain.insert(at, i)),
                    false => {
                        prop_assert_eq!(by.insert_new(at, || i), !plain.contains_key(&at));
                        plain.entry(at).or_insert(i);
                    }
                }
                prop_assert_eq!(by.len(), plain.len());
                prop_assert_eq!(by.is_empty(), plain.is_empty());
                prop_assert!(by.iter().eq(plain.iter().map(|(at, value)| (*at, value))));
                prop_assert!(by.values().eq(plain.values()));
                prop_assert_eq!(by.to_bytes(), plain.to_bytes());
                prop_assert_eq!(ByAddress::from_bytes(&by.to_bytes()), Ok(by.clone()));
                for six in [false, true] {
                    let (start, stop) = (address(six, 5), address(six, 12));
                    let there: Vec<IpAddr> = plain.range(start..=stop).map(|(at, _)| *at).collect();
                    prop_assert_eq!(by.within(start, stop).collect::<Vec<_>>(), there);
                }
            }
        }
    }
}
