//! The key and the value of the map `ADDRESSES`.

use core::net::{IpAddr, Ipv6Addr};

/// An address in network order; IPv4 as `::ffff:a.b.c.d`, so that one map serves both families.
#[repr(C)]
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

    /// The key of an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self { octets }
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
}

/// Everything the programs must know of one managed address. An address without an entry is none
/// of their business.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Fencing token: log index of the entry that made this node the holder. For people and
    /// audits; the programs do not compare it.
    pub epoch: u64,
    /// The interface on which the address is answered for, and no other.
    pub ifindex: u32,
    /// See [`flags`].
    pub flags: u32,
    /// MAC of that interface, given as the answer.
    pub mac: [u8; 6],
    /// Explicitly zero.
    pub reserved: [u8; 2],
}

impl Address {
    /// Whether every bit of `bits` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, bits: u32) -> bool {
        self.flags & bits == bits
    }
}

const _: () = assert!(size_of::<AddressKey>() == 16 && align_of::<AddressKey>() == 1);
const _: () = assert!(size_of::<Address>() == 8 + 4 + 4 + 6 + 2 && align_of::<Address>() == 8);

// SAFETY: `repr(C)`, integers and byte arrays only, and the size asserted above leaves no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for AddressKey {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Address {}
