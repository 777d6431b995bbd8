//! The shape of every map, in one place: the programs declare them with these constants, the
//! loader checks pinned maps against them, a test checks the object against them.

use crate::balance::{
    Affinity, AffinityKey, Answer, Backend, Balance, Claim, FlowKey, FragmentKey, Guard, Half,
    Member, Peer, PeerKey, Ports, Range, Service, ServiceKey, Table, Tally, TallyKey,
};
use crate::{AddressKey, Counters, Deadline, Entry};

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
    /// What holds for balancing as a whole.
    pub const BALANCE: &str = "BALANCE";
    /// Ports of addresses that are balanced.
    pub const SERVICES: &str = "SERVICES";
    /// Look-up tables of the services.
    pub const TABLES: &str = "TABLES";
    /// Backends by number.
    pub const BACKENDS: &str = "BACKENDS";
    /// The flows that are known.
    pub const FLOWS: &str = "FLOWS";
    /// Which clients a service is for.
    pub const RANGES: &str = "RANGES";
    /// Ports of packets that come in pieces.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Counters of the services and backends.
    pub const TALLY: &str = "TALLY";
    /// Ring buffer of new nat flows.
    pub const NEW_FLOWS: &str = "NEW_FLOWS";
    /// New flows of this second.
    pub const GUARD: &str = "GUARD";
    /// What is being recorded.
    pub const CLAIM: &str = "CLAIM";
    /// Whom sockets of this host talk to.
    pub const PEERS: &str = "PEERS";
    /// Services by the ends of backends that see clients' addresses.
    pub const ANSWERS: &str = "ANSWERS";
    /// Which backends clients are kept with.
    pub const AFFINITY: &str = "AFFINITY";
    /// Which backends a table leads to.
    pub const MEMBERS: &str = "MEMBERS";
}

/// Most elements of each map.
pub mod max_entries {
    /// One deadline for the node.
    pub const GATE: usize = 1;
    /// Addresses managed on one node. Memory is taken per entry, not in advance.
    pub const ADDRESSES: usize = 65_536;
    /// Bytes of the ring buffer (about 85 conflicts that nobody has read yet).
    pub const CONFLICTS: usize = 4_096;
    /// One for the node.
    pub const BALANCE: usize = 1;
    /// Services of one node.
    pub const SERVICES: usize = 65_536;
    /// Tables of one node, 32 KiB each: services that want the same may share one.
    pub const TABLES: usize = 16_384;
    /// Backends of one node.
    pub const BACKENDS: usize = 65_536;
    /// Ranges of all services.
    pub const RANGES: usize = 65_536;
    /// Halves of flows, 192 bytes each, for those there are; the buckets take 16 MiB at once.
    pub const FLOWS: usize = 1_048_576;
    /// Packets in pieces that are on their way at a time; older ones are forgotten. About 1 MiB.
    pub const FRAGMENTS: usize = 8_192;
    /// Backends of all services, and the services themselves.
    pub const TALLY: usize = 131_072;
    /// Bytes of the ring buffer (about 2,000 flows that nobody has read yet).
    pub const NEW_FLOWS: usize = 262_144;
    /// One for each CPU.
    pub const GUARD: usize = 1;
    /// One.
    pub const CLAIM: usize = 1;
    /// Sockets of this host that talk to virtual IPs; those that were not heard of for longest are forgotten. About 2 MiB.
    pub const PEERS: usize = 16_384;
    /// Ends of backends that see clients' addresses.
    pub const ANSWERS: usize = 16_384;
    /// Clients of all services that keep them; those that have not come back for longest are forgotten. About 7 MiB.
    pub const AFFINITY: usize = 65_536;
    /// Backends of all tables of such services.
    pub const MEMBERS: usize = 131_072;
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
    /// BPF_MAP_TYPE_PERCPU_ARRAY
    PerCpuArray = 6,
    /// BPF_MAP_TYPE_LRU_HASH
    LruHash = 9,
    /// BPF_MAP_TYPE_LPM_TRIE
    LpmTrie = 11,
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

impl MapSpec {
    /// Keys of type `K`, values of type `V`.
    const fn new<K, V>(
        (name, pin): (&'static str, &'static str),
        kind: MapKind,
        max_entries: usize,
        flags: usize,
    ) -> Self {
        Self {
            name,
            pin,
            kind,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries: max_entries as u32,
            flags: flags as u32,
        }
    }

    const fn hash<K, V>(names: (&'static str, &'static str), most: usize) -> Self {
        Self::new::<K, V>(names, MapKind::Hash, most, map_flags::NO_PREALLOC)
    }

    const fn per_cpu<K, V>(names: (&'static str, &'static str), most: usize) -> Self {
        Self::new::<K, V>(names, MapKind::PerCpuHash, most, map_flags::NO_PREALLOC)
    }
}

/// All maps.
pub const MAPS: [MapSpec; 20] = [
    MapSpec::new::<u32, Deadline>(
        (name::GATE, "gate"),
        MapKind::Array,
        max_entries::GATE,
        map_flags::MMAPABLE,
    ),
    MapSpec::hash::<AddressKey, Entry>((name::ADDRESSES, "addresses"), max_entries::ADDRESSES),
    MapSpec::hash::<AddressKey, u64>((name::HANDED, "handed"), max_entries::ADDRESSES),
    MapSpec::per_cpu::<AddressKey, Counters>((name::COUNTERS, "counters"), max_entries::ADDRESSES),
    MapSpec::new::<(), ()>(
        (name::CONFLICTS, "conflicts"),
        MapKind::RingBuf,
        max_entries::CONFLICTS,
        0,
    ),
    MapSpec::new::<u32, Balance>(
        (name::BALANCE, "balance"),
        MapKind::Array,
        max_entries::BALANCE,
        0,
    ),
    MapSpec::hash::<ServiceKey, Service>((name::SERVICES, "services"), max_entries::SERVICES),
    MapSpec::hash::<u32, Table>((name::TABLES, "tables"), max_entries::TABLES),
    MapSpec::hash::<u32, Backend>((name::BACKENDS, "backends"), max_entries::BACKENDS),
    MapSpec::hash::<FlowKey, Half>((name::FLOWS, "flows"), max_entries::FLOWS),
    MapSpec::new::<[u32; 1 + size_of::<Range>() / 4], u32>(
        (name::RANGES, "ranges"),
        MapKind::LpmTrie,
        max_entries::RANGES,
        map_flags::NO_PREALLOC,
    ),
    MapSpec::new::<FragmentKey, Ports>(
        (name::FRAGMENTS, "fragments"),
        MapKind::LruHash,
        max_entries::FRAGMENTS,
        0,
    ),
    MapSpec::per_cpu::<TallyKey, Tally>((name::TALLY, "tally"), max_entries::TALLY),
    MapSpec::new::<(), ()>(
        (name::NEW_FLOWS, "new_flows"),
        MapKind::RingBuf,
        max_entries::NEW_FLOWS,
        0,
    ),
    MapSpec::new::<u32, Guard>(
        (name::GUARD, "guard"),
        MapKind::PerCpuArray,
        max_entries::GUARD,
        0,
    ),
    MapSpec::new::<u32, Claim>(
        (name::CLAIM, "claim"),
        MapKind::PerCpuArray,
        max_entries::CLAIM,
        0,
    ),
    MapSpec::new::<PeerKey, Peer>(
        (name::PEERS, "peers"),
        MapKind::LruHash,
        max_entries::PEERS,
        0,
    ),
    MapSpec::hash::<ServiceKey, Answer>((name::ANSWERS, "answers"), max_entries::ANSWERS),
    MapSpec::new::<AffinityKey, Affinity>(
        (name::AFFINITY, "affinity"),
        MapKind::LruHash,
        max_entries::AFFINITY,
        0,
    ),
    MapSpec::hash::<Member, u32>((name::MEMBERS, "members"), max_entries::MEMBERS),
];
