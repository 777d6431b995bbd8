//! The shape of every map, in one place: the programs declare them with these constants, the
//! loader checks pinned maps against them, a test checks the object against them.

use crate::{Address, AddressKey, Counters, Deadline};

/// Name of each map in the object.
pub mod name {
    /// The node's deadline.
    pub const GATE: &str = "GATE";
    /// The managed addresses.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// When (CLOCK_BOOTTIME ns) the holder last handed a packet to this node. By address, not in
    /// its entry: the kernel may recycle an entry under the hands of a program.
    pub const HANDED: &str = "HANDED";
    /// Counters of the managed addresses.
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of conflicts.
    pub const CONFLICTS: &str = "CONFLICTS";
}

/// Most elements of each map.
pub mod max_entries {
    /// One deadline for the node.
    pub const GATE: usize = 1;
    /// Addresses managed on one node. Memory is taken per entry, not in advance.
    pub const ADDRESSES: usize = 65_536;
    /// Bytes of the ring buffer (about 85 conflicts that nobody has read yet).
    pub const CONFLICTS: usize = 4_096;
}

/// Flags of each map, as in `linux/bpf.h`.
pub mod map_flags {
    /// BPF_F_NO_PREALLOC: memory for the addresses that there are, not for the most there can be.
    pub const NO_PREALLOC: usize = 1;
    /// BPF_F_MMAPABLE: the beat thread writes the deadline with one atomic store and no system
    /// call, and a reader never sees half of it.
    pub const MMAPABLE: usize = 1 << 10;
}

/// Type of a map, as in `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// BPF_MAP_TYPE_HASH
    Hash = 1,
    /// BPF_MAP_TYPE_ARRAY
    Array = 2,
    /// BPF_MAP_TYPE_PERCPU_HASH
    PerCpuHash = 5,
    /// BPF_MAP_TYPE_RINGBUF
    RingBuf = 27,
}

/// The shape of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Name in the object.
    pub name: &'static str,
    /// Name of the pin: bpffs allows no dots.
    pub pin: &'static str,
    /// Type.
    pub kind: MapKind,
    /// Bytes of a key; 0 for a ring buffer.
    pub key_size: u32,
    /// Bytes of a value; 0 for a ring buffer.
    pub value_size: u32,
    /// Most elements, or bytes of a ring buffer.
    pub max_entries: u32,
    /// Flags, see [`map_flags`].
    pub flags: u32,
}

/// All maps.
pub const MAPS: [MapSpec; 5] = [
    MapSpec {
        name: name::GATE,
        pin: "gate",
        kind: MapKind::Array,
        key_size: 4,
        value_size: size_of::<Deadline>() as u32,
        max_entries: max_entries::GATE as u32,
        flags: map_flags::MMAPABLE as u32,
    },
    MapSpec {
        name: name::ADDRESSES,
        pin: "addresses",
        kind: MapKind::Hash,
        key_size: size_of::<AddressKey>() as u32,
        value_size: size_of::<Address>() as u32,
        max_entries: max_entries::ADDRESSES as u32,
        flags: map_flags::NO_PREALLOC as u32,
    },
    MapSpec {
        name: name::HANDED,
        pin: "handed",
        kind: MapKind::Hash,
        key_size: size_of::<AddressKey>() as u32,
        value_size: size_of::<u64>() as u32,
        max_entries: max_entries::ADDRESSES as u32,
        flags: map_flags::NO_PREALLOC as u32,
    },
    MapSpec {
        name: name::COUNTERS,
        pin: "counters",
        kind: MapKind::PerCpuHash,
        key_size: size_of::<AddressKey>() as u32,
        value_size: size_of::<Counters>() as u32,
        max_entries: max_entries::ADDRESSES as u32,
        flags: map_flags::NO_PREALLOC as u32,
    },
    MapSpec {
        name: name::CONFLICTS,
        pin: "conflicts",
        kind: MapKind::RingBuf,
        key_size: 0,
        value_size: 0,
        max_entries: max_entries::CONFLICTS as u32,
        flags: 0,
    },
];
