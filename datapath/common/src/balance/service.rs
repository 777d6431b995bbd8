//! The maps `SERVICES` and `TABLES`.

use crate::AddressKey;

/// The key of `SERVICES`: where clients send to.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// A managed address.
    pub address: AddressKey,
    /// Port in network order; 0: all ports that have no service of their own.
    pub port: [u8; 2],
    /// See [`super::protocol`].
    pub protocol: u8,
    /// Explicitly zero.
    pub reserved: u8,
}

/// How packets of a service go on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Key of its table in `TABLES`.
    pub table: u32,
    /// See [`service_flags`].
    pub flags: u32,
    /// Number given by the daemon, for `TALLY`.
    pub id: u32,
    /// With [`service_flags::BY_CLIENT`]: for how many ms after its newest connection began a client is kept with its backend.
    pub timeout: u32,
}

/// Bits of [`Service::flags`]; exactly one of the first two is set.
pub mod service_flags {
    /// Destination and source are rewritten; answers come back through the holder.
    pub const NAT: u32 = 1;
    /// Packets go to the MAC of a backend that has the address itself and answers clients directly.
    pub const DSR: u32 = 1 << 1;
    /// All flows of a client's address go to one backend: where its last one within [`super::Service::timeout`] went
    /// (`AFFINITY`), as long as that takes new connections (`MEMBERS`). Else its address alone chooses the slot, the same on every node.
    pub const BY_CLIENT: u32 = 1 << 2;
    /// Only clients in one of its ranges in `RANGES` may begin a flow.
    pub const RANGES: u32 = 1 << 3;
    /// With [`DSR`]: packets go to the backend's address inside a packet of IP in IP, through routers
    /// if need be.
    pub const IPIP: u32 = 1 << 4;
    /// With [`DSR`]: the same inside UDP, by [`crate::balance::GUE_PORT`].
    pub const GUE: u32 = 1 << 5;
    /// nat, TCP, and the service is of all ports: also of those to which its backends send their answers.
    /// So what comes from one of them in the middle of a connection is no client's. Their addresses are
    /// ranges of [`super::Range::ANSWERS`].
    pub const ALL_PORTS: u32 = 1 << 6;
    /// nat: clients keep their addresses on the way to backends, whose answers come back by this host since it is
    /// their router. Not where they would not: see [`crate::balance::Backend::is_beside`].
    pub const KEEP: u32 = 1 << 7;
}

/// A range of clients of a service. The key of `RANGES` is the number of its bits that count (32 for
/// the service, plus the length of the prefix; IPv4 as `::ffff:0:0/96`, so plus 96), then this.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// [`Service::id`].
    pub service: u32,
    /// The first address of the range.
    pub address: AddressKey,
}

impl Range {
    /// The number, of no service, under which the backends are that answer to ports of a service:
    /// [`service_flags::ALL_PORTS`].
    pub const ANSWERS: u32 = 0;
    /// Bits of a key that is one client.
    pub const BITS: u32 = 32 + 128;
    /// Bits in front of an IPv4 prefix.
    pub const IN_FRONT_OF_V4: u32 = 32 + 96;
    /// Bits in front of an IPv6 prefix.
    pub const IN_FRONT_OF_V6: u32 = 32;
}

/// Slots of a table: a prime, as Maglev's permutations need it, and as many as fit into the 32 KiB
/// that the kernel takes for an element of this size.
pub const SLOTS: usize = 8171;

/// The value of `TABLES`: for each slot the key of a backend in `BACKENDS`; 0: none. Never changed
/// in place: a new one is made under another key, then one write of [`Service::table`] swaps them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Indexed by [`super::slot`].
    pub slots: [u32; SLOTS],
}

const _: () = assert!(size_of::<ServiceKey>() == 16 + 2 + 1 + 1);
const _: () = assert!(size_of::<Service>() == 16 && align_of::<Service>() == 4);
const _: () = assert!(size_of::<Range>() == 4 + 16);
const _: () = assert!(size_of::<Table>() == SLOTS * 4);

// SAFETY: `repr(C)`, integers and byte arrays only, and the sizes asserted above leave no padding;
// in all four.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ServiceKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Service {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Table {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Range {}
