//! The key and the value of the map `ADDRESSES`.

use core::net::{IpAddr, Ipv6Addr};
use core::ops::Deref;

/// An address in network order; IPv4 as `::ffff:a.b.c.d`, so that one map serves both families.
/// Aligned, so that programs compare it by words.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey {
    /// The sixteen bytes, most significant first.
    pub octets: [u8; 16],
}

impl AddressKey {
    /// The key of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self {
            octets: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
        }
    }

    /// Whether it is that of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = self.octets;
        a | b | c | d | e | f | g | h | i | j == 0 && k & l == 0xff
    }

    /// The key of an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self { octets }
    }

    /// The sixteen bytes as four words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> &[u32; 4] {
        // SAFETY: of the same size and alignment, and any bytes are words.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<AddressKey> for IpAddr {
    fn from(key: AddressKey) -> Self {
        Ipv6Addr::from(key.octets).to_canonical()
    }
}

/// Bits of [`Address::flags`].
pub mod flags {
    /// This node holds the address: answer and let its packets pass, before the deadline.
    pub const OPEN: u32 = 1;
    /// The address sits, or is about to sit, on an interface of this host. While it is shut,
    /// packets to it are dropped instead of going up the stack; without this bit they pass, so
    /// that a router which is a mere standby goes on forwarding to the holder.
    pub const LOCAL: u32 = 1 << 1;
    /// vipd itself put the address on the interface, so vipd takes it away again. Not read by
    /// the programs: it is the record a restarted daemon finds.
    pub const ADDED: u32 = 1 << 2;
    /// The interface forwards IPv6: advertisements carry the R flag.
    pub const ROUTER: u32 = 1 << 3;
    /// This node still holds the address, or has just given it up, and serves it no more: packets
    /// to it go on to the interface with the MAC `peer`. See [`super::handing`].
    pub const HAND: u32 = 1 << 4;
    /// The holder, whose MAC is `peer`, is handing the address to this node.
    pub const TAKE: u32 = 1 << 5;
    /// The address has services: its packets are balanced while it is open here. See
    /// [`crate::balance`].
    pub const BALANCED: u32 = 1 << 6;
    /// This host is a backend of a dsr service of the address, so it serves the address while
    /// another node holds it: IP packets to and from it pass while it is shut. While it is open,
    /// or [`LEASED`], it has no meaning: a holder whose lease is over is silent. ARP and neighbour
    /// discovery stay the holder's.
    pub const BACKEND: u32 = 1 << 7;
    /// With [`HAND`]: only while the node's deadline has not passed; it is the holder still.
    pub const LEASED: u32 = 1 << 8;
}

/// A planned move: the holder falls silent and hands packets on to the next holder, which serves
/// them before it is the holder.
///
/// A packet that arrives so proves that the holder has fallen silent, however long it was on its
/// way: the holder does not speak again, nor does anybody else come to, before the receiver was the
/// holder or its lease was withdrawn (`vipd_core::steward`). So the receiver may speak, by its own
/// lease, for [`handing::SERVES_NS`] after each.
pub mod handing {
    /// How long a node may speak for an address after a packet for it was handed to it. Its first
    /// answer shows the client where it is, so one packet may be all that is handed, and this is
    /// how long the rest of the move may take without a loss. It ends so that a packet of one move
    /// gives no right in the next, which the node takes part in 5 s later at the earliest.
    pub const SERVES_NS: u64 = 1_000_000_000;
}

/// Everything the programs must know of one managed address. An address without an entry is none
/// of their business.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Fencing token: log index of the entry that made this node the holder. For people and
    /// audits; the programs do not compare it.
    pub epoch: u64,
    /// With [`flags::HAND`]: hand packets on until this instant (CLOCK_BOOTTIME ns).
    pub until: u64,
    /// The interface on which the address is answered for, and no other.
    pub ifindex: u32,
    /// See [`flags`].
    pub flags: u32,
    /// MAC of that interface, given as the answer.
    pub mac: [u8; 6],
    /// With [`flags::HAND`]: where packets go. With [`flags::TAKE`]: where they come from. Else 0.
    pub peer: [u8; 6],
    /// Explicitly zero.
    pub reserved: [u8; 4],
}

impl Address {
    /// Whether every bit of `bits` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, bits: u32) -> bool {
        self.flags & bits == bits
    }
}

/// The value of `ADDRESSES`: an address with the proof of whose it is.
///
/// The kernel may use the place of an entry again, for another address, as soon as it is replaced: under
/// the hands of a program that has just looked it up, and that then finds the bytes of both mixed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The address while the entry is [`flags::OPEN`], else that with every bit inverted. So no byte
    /// of a shut entry of an address is that of an open one, and no mixture of it with
    /// an entry of another address looks like one.
    pub whose: AddressKey,
    /// What is known of it.
    pub address: Address,
}

impl Entry {
    /// The entry of an address.
    #[must_use]
    pub fn new(key: &AddressKey, address: Address) -> Self {
        let inverted = AddressKey {
            octets: key.octets.map(|octet| !octet),
        };
        Self {
            whose: if address.has(flags::OPEN) {
                *key
            } else {
                inverted
            },
            address,
        }
    }

    /// Whether this is an open entry of that very address.
    #[inline(always)]
    #[must_use]
    pub const fn is_open_for(&self, key: &AddressKey) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.whose.words(), key.words());
        // The last word first: it is what differs most often.
        *d == *h && *c == *g && *b == *f && *a == *e
    }
}

impl Deref for Entry {
    type Target = Address;

    #[inline(always)]
    fn deref(&self) -> &Address {
        &self.address
    }
}

const _: () = assert!(size_of::<AddressKey>() == 16 && align_of::<AddressKey>() == 4);
const _: () = assert!(size_of::<Entry>() == 16 + size_of::<Address>());
const _: () =
    assert!(size_of::<Address>() == 8 + 8 + 4 + 4 + 6 + 6 + 4 && align_of::<Address>() == 8);

// SAFETY: `repr(C)`, integers and byte arrays only, and the size asserted above leaves no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for AddressKey {}
// SAFETY: as above, in both.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Address {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: AddressKey, flags: u32) -> Entry {
        let address = Address {
            epoch: 0,
            until: 0,
            ifindex: 0,
            flags,
            mac: [0; 6],
            peer: [0; 6],
            reserved: [0; 4],
        };
        Entry::new(&key, address)
    }

    #[test]
    fn no_mixture_of_a_shut_entry_with_an_open_one_of_another_address_is_open() {
        let mine = AddressKey::v4([10, 0, 0, 7]);
        let shut = entry(mine, flags::LOCAL);
        assert!(entry(mine, flags::OPEN).is_open_for(&mine) && !shut.is_open_for(&mine));
        for other in [[10, 0, 0, 8], [245, 255, 255, 248], [10, 0, 1, 7]] {
            let open = entry(AddressKey::v4(other), flags::OPEN);
            for mixture in 0..1u32 << 16 {
                let octets = core::array::from_fn(|i| {
                    let from = if mixture >> i & 1 == 0 { shut } else { open };
                    from.whose.octets[i]
                });
                let whose = AddressKey { octets };
                assert!(!Entry { whose, ..open }.is_open_for(&mine), "{octets:x?}");
            }
        }
    }
}
