//! The map `BACKENDS`, by number. Numbers are the daemon's; 0 is none.

use crate::AddressKey;

/// Who serves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address, of the same family as that of the service.
    pub address: AddressKey,
    /// This host's own address towards it: the source of packets that are encapsulated for it. Zeros: it has none.
    pub source: AddressKey,
    /// Its port in network order; 0: the port that the client asked for.
    pub port: [u8; 2],
    /// See [`backend_flags`].
    pub flags: u16,
    /// The interface through which it is reached.
    pub ifindex: u32,
    /// Number given by the daemon, for `TALLY`.
    pub id: u32,
    /// The most bytes of IP that the route to it says go there at a time; 0: it says nothing. Heeded where packets are
    /// encapsulated.
    pub mtu: u32,
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// The address is one of this host's.
    pub const LOCAL: u16 = 1;
    /// It is a loopback address, and so one of this host's: what goes there stays at the virtual IP, but for the port, and whoever
    /// listens at the loopback address gets it.
    pub const LOOPBACK: u16 = 1 << 1;
    /// How many bits in front its address has in common with all hosts of its link, as this host's route to that says (IPv4 as
    /// `::ffff:0:0/96`, so plus 96), in the upper byte; 0: a router is in between, or nobody knows.
    pub const LINK: u16 = 0xff00;
}

impl Backend {
    /// Whether the address is one of this host's.
    #[inline(always)]
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.flags & backend_flags::LOCAL != 0
    }

    /// Whether it is at a loopback address.
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.flags & backend_flags::LOOPBACK != 0
    }

    /// Whether its packets to this address do not come by here, although this host is its router: they are to itself, or to
    /// its own link.
    #[inline(always)]
    #[must_use]
    pub const fn is_beside(&self, host: &AddressKey) -> bool {
        let bits = (self.flags & backend_flags::LINK) >> 8;
        let bits = if bits == 0 { 128 } else { bits as u32 };
        let (mine, its) = (halves(&self.address), halves(host));
        let front = if bits < 64 { bits } else { 64 };
        (mine[0] ^ its[0]) & mask(front) == 0 && (mine[1] ^ its[1]) & mask(bits - front) == 0
    }
}

/// The first so many bits of a word; 64 at most.
#[inline(always)]
const fn mask(bits: u32) -> u64 {
    if bits == 0 {
        0
    } else {
        u64::MAX << (64 - bits)
    }
}

/// The halves of an address as numbers.
#[inline(always)]
const fn halves(address: &AddressKey) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets;
    [
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    ]
}

const _: () = assert!(size_of::<Backend>() == 16 + 16 + 2 + 2 + 4 + 4 + 4);

// SAFETY: `repr(C)`, integers and byte arrays only, and the size asserted above leaves no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Backend {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    extern crate std;

    use std::net::IpAddr;

    use super::*;

    #[test]
    fn who_is_on_a_backends_link_is_told_by_the_prefix_of_that() {
        let key = |text: &str| AddressKey::from(text.parse::<IpAddr>().unwrap());
        let backend = |address, bits: u16| Backend {
            address: key(address),
            source: AddressKey { octets: [0; 16] },
            port: [0; 2],
            flags: bits << 8,
            ifindex: 1,
            id: 1,
            mtu: 0,
        };
        for (address, bits, host, beside) in [
            ("10.1.2.3", 96 + 24, "10.1.2.200", true),
            ("10.1.2.3", 96 + 24, "10.1.3.3", false),
            ("10.1.2.3", 96 + 23, "10.1.3.3", true),
            ("10.1.2.3", 96 + 32, "10.1.2.4", false),
            ("10.1.2.3", 0, "10.1.2.4", false),
            ("10.1.2.3", 0, "10.1.2.3", true),
            ("fd00::3", 64, "fd00::1:0:0:4", true),
            ("fd00::3", 64, "fd00:0:0:1::4", false),
            ("fd00::3", 63, "fd00:0:0:1::4", true),
            ("fd00::3", 48, "fd00:0:1::4", false),
            ("fd00::3", 120, "fd00::4", true),
            ("fd00::3", 120, "fd00::104", false),
            ("fd00::3", 0, "fd00::4", false),
        ] {
            let found = backend(address, bits).is_beside(&key(host));
            assert_eq!(found, beside, "{address}/{bits} {host}");
        }
    }
}
