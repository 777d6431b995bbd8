//! The maps of balancing, in the shapes of `vipd-datapath-common`.

use aya_ebpf::{
    btf_maps::{
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie::Key,
    },
    macros::btf_map,
};
use vipd_datapath_common::balance::{
    Affinity, AffinityKey, Answer, Backend, Balance, Claim, Flow, FlowKey, FlowRecord, FragmentKey,
    Guard, Half, Member, Peer, PeerKey, Ports, Range, Service, ServiceKey, Table, Tally, TallyKey,
};
use vipd_datapath_common::{AddressKey, map_flags, max_entries};

use super::place::Place;

#[btf_map]
static BALANCE: Array<Balance, { max_entries::BALANCE }> = Array::new();

#[btf_map]
static SERVICES: HashMap<
    ServiceKey,
    Service,
    { max_entries::SERVICES },
    { map_flags::NO_PREALLOC },
> = HashMap::new();

#[btf_map]
static TABLES: HashMap<u32, Table, { max_entries::TABLES }, { map_flags::NO_PREALLOC }> =
    HashMap::new();

#[btf_map]
static BACKENDS: HashMap<u32, Backend, { max_entries::BACKENDS }, { map_flags::NO_PREALLOC }> =
    HashMap::new();

#[btf_map]
static FLOWS: HashMap<FlowKey, Half, { max_entries::FLOWS }, { map_flags::NO_PREALLOC }> =
    HashMap::new();

#[btf_map]
static RANGES: LpmTrie<Range, u32, { max_entries::RANGES }, { map_flags::NO_PREALLOC }> =
    LpmTrie::new();

#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, Ports, { max_entries::FRAGMENTS }> = LruHashMap::new();

#[btf_map]
static TALLY: PerCpuHashMap<TallyKey, Tally, { max_entries::TALLY }, { map_flags::NO_PREALLOC }> =
    PerCpuHashMap::new();

#[btf_map]
static NEW_FLOWS: RingBuf<(), { max_entries::NEW_FLOWS }> = RingBuf::new();

#[btf_map]
static GUARD: PerCpuArray<Guard, { max_entries::GUARD }> = PerCpuArray::new();

#[btf_map]
static CLAIM: PerCpuArray<Claim, { max_entries::CLAIM }> = PerCpuArray::new();

#[btf_map]
static PEERS: LruHashMap<PeerKey, Peer, { max_entries::PEERS }> = LruHashMap::new();

#[btf_map]
static ANSWERS: HashMap<ServiceKey, Answer, { max_entries::ANSWERS }, { map_flags::NO_PREALLOC }> =
    HashMap::new();

#[btf_map]
static AFFINITY: LruHashMap<AffinityKey, Affinity, { max_entries::AFFINITY }> = LruHashMap::new();

#[btf_map]
static MEMBERS: HashMap<Member, u32, { max_entries::MEMBERS }, { map_flags::NO_PREALLOC }> =
    HashMap::new();

/// What holds for the node.
#[inline(always)]
pub fn balance() -> Option<Balance> {
    // SAFETY: a live element of an array map: two integers, each written whole.
    BALANCE.get_ptr(0).map(|balance| unsafe { *balance })
}

// Elements live until the end of the RCU read section in which a program runs, perhaps as those of
// another key by then: the daemon removes services, tables and backends only some time after the
// last use of them. Flows say by themselves whose they are: see `place`.

#[inline(always)]
pub fn service(key: &ServiceKey) -> Option<&'static Service> {
    // SAFETY: as above.
    unsafe { SERVICES.get(key) }
}

/// For which service the end of a backend answers.
#[inline(always)]
pub fn answer(end: &ServiceKey) -> Option<Answer> {
    // SAFETY: as above.
    unsafe { ANSWERS.get(end) }.copied()
}

/// Whether the client is in one of the service's ranges.
#[inline(always)]
pub fn in_range(service: u32, address: AddressKey) -> bool {
    let client = Range { service, address };
    RANGES.get(&Key::new(Range::BITS, client)).is_some()
}

#[inline(always)]
pub fn table(number: u32) -> Option<&'static Table> {
    // SAFETY: as above.
    unsafe { TABLES.get(number) }
}

#[inline(always)]
pub fn backend(number: u32) -> Option<&'static Backend> {
    // SAFETY: as above.
    unsafe { BACKENDS.get(number) }
}

/// Where it says which backend a client is kept with.
#[inline(always)]
pub fn affinity(key: &AffinityKey) -> Option<*mut Affinity> {
    AFFINITY.get_ptr_mut(key)
}

/// Remembers it; who has not been back for longest makes room.
#[inline(always)]
pub fn set_affinity(key: &AffinityKey, affinity: &Affinity) {
    let _ = AFFINITY.insert(key, affinity, 0);
}

/// Whether a backend takes new connections by a table.
#[inline(always)]
pub fn is_member(member: &Member) -> bool {
    MEMBERS.get_ptr_mut(member).is_some()
}

#[inline(always)]
pub fn flow(key: &FlowKey) -> Option<Place> {
    FLOWS.get_ptr_mut(key).map(Place)
}

/// How [`add_flow`] went.
pub enum Stored {
    Yes,
    /// There is one with this key.
    Taken,
    /// No room.
    No,
}

/// BPF_NOEXIST.
const NEW: u64 = 1;
const EEXIST: i32 = -17;

/// Adds a half of a flow, whose proof is that of the key, if there is none with its key.
#[inline(always)]
pub fn add_flow(key: &FlowKey, half: &Half) -> Stored {
    match FLOWS.insert(key, half, NEW) {
        Ok(()) => Stored::Yes,
        Err(EEXIST) => Stored::Taken,
        Err(_) => Stored::No,
    }
}

/// Adds or replaces a half of a flow; false: no room.
#[inline(always)]
pub fn set_flow(key: &FlowKey, half: &Half) -> bool {
    FLOWS.insert(key, half, 0).is_ok()
}

#[inline(always)]
pub fn remove_flow(key: &FlowKey) {
    let _ = FLOWS.remove(key);
}

/// The ports of a packet whose first piece has come by.
#[inline(always)]
pub fn ports(key: &FragmentKey) -> Option<Ports> {
    // SAFETY: as above.
    unsafe { FRAGMENTS.get(key) }.copied()
}

#[inline(always)]
pub fn set_ports(key: &FragmentKey, ports: &Ports) {
    let _ = FRAGMENTS.insert(key, ports, 0);
}

/// This CPU's counters; `None` until the daemon has made them.
#[inline(always)]
pub fn tally(key: &TallyKey) -> Option<&'static mut Tally> {
    // SAFETY: per-CPU, and a program is neither preempted by another one of its kind on this CPU
    // nor does it hold two of these at once.
    TALLY.get_ptr_mut(key).map(|tally| unsafe { &mut *tally })
}

/// Where this CPU's counters are, for whoever may be interrupted by a program that counts, too.
#[inline(always)]
pub fn shared_tally(key: &TallyKey) -> Option<*mut Tally> {
    TALLY.get_ptr_mut(key)
}

/// Whom a socket believes to talk to.
#[inline(always)]
pub fn peer(key: &PeerKey) -> Option<Peer> {
    // SAFETY: as above.
    unsafe { PEERS.get(key) }.copied()
}

/// Remembers it; false: no memory.
#[inline(always)]
pub fn set_peer(key: &PeerKey, peer: &Peer) -> bool {
    PEERS.insert(key, peer, 0).is_ok()
}

/// This CPU's account of new flows.
#[inline(always)]
pub fn guard() -> Option<&'static mut Guard> {
    // SAFETY: as above.
    GUARD.get_ptr_mut(0).map(|guard| unsafe { &mut *guard })
}

/// This CPU's claim of a key for a half.
#[inline(always)]
pub fn claim() -> Option<*mut Claim> {
    CLAIM.get_ptr_mut(0)
}

/// Tells the daemon of a new flow; false: it has not read the former ones yet.
#[inline(always)]
pub fn report(key: &FlowKey, flow: &Flow) -> bool {
    let Some(mut record) = NEW_FLOWS.reserve_untyped::<FlowRecord>(0) else {
        return false;
    };
    let place = record.as_mut_ptr();
    // SAFETY: room for a record; written in place, since there is no room on the stack.
    unsafe {
        (&raw mut (*place).key).write(*key);
        (&raw mut (*place).flow).write(*flow);
    }
    record.submit(0);
    true
}
