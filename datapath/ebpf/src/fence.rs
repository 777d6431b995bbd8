//! The gate, and the fence for IP packets to and from a managed address.

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, programs::TcContext};
use vipd_datapath_common::{AddressKey, Counter, Entry, flags, frame::ETHERNET};

use crate::verdict::{self, Verdict};
use crate::{
    balance::{self, encap},
    hand, maps, parse,
};

/// Whether this node may speak for the address at this instant.
///
/// The kernel may recycle an element for another address the moment it is replaced, under the
/// hands of a program that has just looked it up. So an entry that is open says for which
/// address, and no mixture of two says so wrongly; a wrong "shut" is but a lost frame.
#[inline(always)]
pub fn is_open(key: &AddressKey, entry: &Entry) -> bool {
    open_at(key, entry).is_some()
}

/// The same, and which instant that is.
#[inline(always)]
fn open_at(key: &AddressKey, entry: &Entry) -> Option<u64> {
    if !entry.has(flags::OPEN) {
        return None;
    }
    let now = now();
    (now < maps::deadline() && entry.is_open_for(key)).then_some(now)
}

/// Which instant it is, where this node is the holder of an address with services, in no planned move: then what ingress
/// sends on for the address may also leave as one of it, until the instant is over.
#[inline(always)]
pub fn balances(key: &AddressKey, entry: &Entry) -> Option<u64> {
    const ALL: u32 = flags::OPEN | flags::LOCAL | flags::BALANCED;
    const NONE: u32 = flags::HAND | flags::TAKE;
    if entry.flags & (ALL | NONE) != ALL {
        return None;
    }
    open_at(key, entry)
}

/// Whether the element is still that of the address: for flags that carry no proof.
#[inline(always)]
pub fn still(key: &AddressKey, entry: &Entry) -> bool {
    maps::address(key).is_some_and(|again| core::ptr::eq(again, entry))
}

/// CLOCK_BOOTTIME in nanoseconds: it counts on while the host is suspended.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Offsets in an IPv4 header.
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

#[inline(always)]
pub fn ingress_v4(ctx: &TcContext, at: &mut u64) -> Verdict {
    match key_v4(ctx, DESTINATION) {
        Some(key) => ingress(ctx, parse::key(&key), at),
        None => Verdict::Pass,
    }
}

#[inline(always)]
pub fn egress_v4(ctx: &TcContext) -> Verdict {
    match key_v4(ctx, SOURCE) {
        Some(key) => egress(ctx, parse::key(&key), || {
            if verdict::travels_inside(ctx) {
                encap::destination(ctx, true)
            } else {
                key_v4(ctx, DESTINATION)
            }
        }),
        None => Verdict::Pass,
    }
}

#[inline(always)]
fn key_v4(ctx: &TcContext, offset: usize) -> Option<[u64; 2]> {
    let at = ETHERNET + offset;
    if let Some(address) = parse::view(ctx, at) {
        return Some(parse::mapped(*address));
    }
    // Not in one piece, as few packets are.
    let mut address = MaybeUninit::uninit();
    parse::read(ctx, at, &mut address).map(|address| parse::mapped(*address))
}

/// A packet to `destination`: while that is shut, and not handed to this node, it must not reach the programs of this host.
/// What is sent to the MAC of another host does not, and may be for a guest behind a bridge.
/// Whoever looks at the clock for it leaves in `at` what that said (CLOCK_BOOTTIME ns).
#[inline(always)]
pub fn ingress(ctx: &TcContext, destination: &AddressKey, at: &mut u64) -> Verdict {
    let Some(address) = maps::address(destination) else {
        return balance::unmanaged(ctx);
    };
    if parse::for_another_host(ctx) {
        return Verdict::Pass;
    }
    if address.has(flags::HAND)
        && let Some(verdict) = hand::on(ctx, destination, address)
    {
        return verdict;
    }
    if !address.has(flags::LOCAL) {
        return Verdict::Pass;
    }
    let served = match open_at(destination, address) {
        Some(instant) => {
            *at = instant;
            true
        }
        None => hand::takes(ctx, destination, address),
    };
    if served {
        return if address.has(flags::BALANCED) {
            Verdict::Balance
        } else {
            Verdict::Pass
        };
    }
    if is_backend(destination, address) {
        return Verdict::Pass;
    }
    maps::count(destination, Counter::DroppedIngress);
    Verdict::Drop
}

/// A packet from `source`. While that is shut nothing made on this host may carry it: not even
/// what an old connection still sends after the address has gone. Nor what ingress has sent on: with nat
/// from the address, with dsr to it, if need be inside another packet. The holder's packets that this host only forwards do pass.
#[inline(always)]
pub fn egress(
    ctx: &TcContext,
    source: &AddressKey,
    destination: impl FnOnce() -> Option<[u64; 2]>,
) -> Verdict {
    let sent_on = verdict::was_sent_on(ctx);
    let may = match maps::address(source) {
        Some(entry) if parse::made_here(ctx) => speaks(source, entry) || stopped(source),
        // With dsr it is the client's, who may speak from an address that another node holds.
        Some(entry) if sent_on => {
            serves(source, entry)
                || destination().is_some_and(|key| carries(parse::key(&key)))
                || stopped(source)
        }
        None if sent_on => destination().is_none_or(|key| may_carry(parse::key(&key))),
        Some(_) | None => true,
    };
    if may { Verdict::Pass } else { Verdict::Drop }
}

/// Whether this node serves the address, if it is one that nodes hold.
#[inline(never)]
fn carries(destination: &AddressKey) -> bool {
    maps::address(destination).is_some_and(|entry| serves(destination, entry))
}

/// Whether what is to the address may be sent on to its backend.
#[inline(never)]
fn may_carry(destination: &AddressKey) -> bool {
    match maps::address(destination) {
        Some(entry) => serves(destination, entry) || stopped(destination),
        None => true,
    }
}

/// Counts a packet that may not leave; false.
#[inline(always)]
fn stopped(address: &AddressKey) -> bool {
    maps::count(address, Counter::DroppedEgress);
    false
}

/// Whether IP packets from the address may leave this host.
#[inline(always)]
fn speaks(source: &AddressKey, address: &Entry) -> bool {
    serves(source, address) || is_backend(source, address)
}

/// Whether this node serves the address, as its holder or in the right of that.
#[inline(always)]
fn serves(key: &AddressKey, entry: &Entry) -> bool {
    is_open(key, entry) || hand::serves(key, entry)
}

/// Whether this host serves the address as a backend of another holder. One whose entry is still open, or handed on in the right
/// of its lease, is no backend: it was the holder, and if its lease is over it is silent, whatever else it is.
#[inline(always)]
fn is_backend(key: &AddressKey, entry: &Entry) -> bool {
    let backend = entry.flags & (flags::BACKEND | flags::OPEN | flags::LEASED) == flags::BACKEND;
    backend && still(key, entry)
}

/// Whether an answer that was made on this host may leave as one of the address; counted if not.
#[inline(always)]
pub fn may_speak(source: &AddressKey) -> bool {
    maps::address(source).is_some_and(|entry| serves(source, entry)) || stopped(source)
}

/// What becomes of a backend's answer to a client whose address that sees, instead of leaving as one of the virtual IP. `None`: it
/// may leave so. While that moves on, the next holder gets the answers as well. Where it is none any more, clients ask the backend
/// itself by now, perhaps from the same port.
#[inline(always)]
pub fn relays(ctx: &TcContext, vip: &AddressKey) -> Option<Verdict> {
    let Some(entry) = maps::address(vip) else {
        return Some(Verdict::Pass);
    };
    if entry.has(flags::HAND)
        && let Some(verdict) = hand::on(ctx, vip, entry)
    {
        return Some(verdict);
    }
    let may = serves(vip, entry) || stopped(vip);
    (!may).then_some(Verdict::Drop)
}

/// The interface of an address that this node serves.
#[inline(always)]
pub fn served_on(key: &AddressKey) -> Option<u32> {
    maps::address(key)
        .filter(|entry| serves(key, entry))
        .map(|entry| entry.ifindex)
}
