//! The maps, in the shapes of `vipd-datapath-common`.

use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuHashMap, RingBuf},
    macros::btf_map,
};
use vipd_datapath_common::{
    AddressKey, Conflict, Counter, Counters, Deadline, Entry, map_flags, max_entries,
};

#[btf_map]
static GATE: Array<Deadline, { max_entries::GATE }, { map_flags::MMAPABLE }> = Array::new();

#[btf_map]
static ADDRESSES: HashMap<
    AddressKey,
    Entry,
    { max_entries::ADDRESSES },
    { map_flags::NO_PREALLOC },
> = HashMap::new();

#[btf_map]
static HANDED: HashMap<AddressKey, u64, { max_entries::ADDRESSES }, { map_flags::NO_PREALLOC }> =
    HashMap::new();

#[btf_map]
static COUNTERS: PerCpuHashMap<
    AddressKey,
    Counters,
    { max_entries::ADDRESSES },
    { map_flags::NO_PREALLOC },
> = PerCpuHashMap::new();

#[btf_map]
static CONFLICTS: RingBuf<(), { max_entries::CONFLICTS }> = RingBuf::new();

/// The node's deadline.
#[inline(always)]
pub fn deadline() -> Deadline {
    match GATE.get_ptr(0) {
        // SAFETY: a live element of an array map. The daemon writes it with one atomic store;
        // `volatile` makes this one load.
        Some(deadline) => unsafe { deadline.read_volatile() },
        None => 0,
    }
}

/// The entry of a managed address.
#[inline(always)]
pub fn address(key: &AddressKey) -> Option<&'static Entry> {
    // SAFETY: programs run inside an RCU read section, until whose end the memory stays that of
    // an element of this map; perhaps of another address by then, see `fence::is_open`.
    unsafe { ADDRESSES.get(key) }
}

/// When a packet for the address was last handed to this node (CLOCK_BOOTTIME ns); 0: never.
#[inline(always)]
pub fn handed(key: &AddressKey) -> u64 {
    // SAFETY: as above; a stale or recycled element can but shorten the time to speak, or lengthen
    // it by that of an address that is taken as well.
    unsafe { HANDED.get(key) }.map_or(0, |handed| *handed)
}

/// A packet for the address was handed to this node now. A full map loses it: then the node stays
/// silent until it is the holder.
#[inline(always)]
pub fn set_handed(key: &AddressKey, now: u64) {
    let _ = HANDED.insert(key, &now, 0);
}

/// This CPU's counters of an address; `None` until the daemon has made them.
#[inline(always)]
pub fn counters(key: &AddressKey) -> Option<&'static mut Counters> {
    // SAFETY: per-CPU, and a program is neither preempted by another one of its kind on this CPU
    // nor does it hold two of these at once.
    COUNTERS
        .get_ptr_mut(key)
        .map(|counters| unsafe { &mut *counters })
}

/// Counts one event of an address.
#[inline(always)]
pub fn count(key: &AddressKey, counter: Counter) {
    if let Some(counters) = counters(key) {
        let count = &mut counters.counts[counter as usize];
        *count = count.wrapping_add(1);
    }
}

/// Reports a conflict. A full buffer loses the event; its count is kept elsewhere.
#[inline(always)]
pub fn report(conflict: &Conflict) {
    let _ = CONFLICTS.output_untyped::<Conflict>(conflict, 0);
}
