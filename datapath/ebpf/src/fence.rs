//! The gate, and the fence for IP packets to and from a managed address.

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, programs::TcContext};
use vipd_datapath_common::{Address, AddressKey, Counter, flags, frame::ETHERNET};

use crate::{hand, maps, parse, verdict::Verdict};

/// Whether this node may speak for the address at this instant.
///
/// The kernel may recycle an element for another address the moment it is replaced, under the
/// hands of a program that has just looked it up. So OPEN counts only if the element is still that
/// of the address afterwards; a wrong "shut" is but a lost frame.
#[inline(always)]
pub fn is_open(key: &AddressKey, address: &Address) -> bool {
    open_at(key, address).is_some()
}

/// The same, and which instant that is.
#[inline(always)]
fn open_at(key: &AddressKey, address: &Address) -> Option<u64> {
    if !address.has(flags::OPEN) {
        return None;
    }
    let now = now();
    (now < maps::deadline() && still(key, address)).then_some(now)
}

/// Whether the element is still that of the address.
#[inline(always)]
pub fn still(key: &AddressKey, address: &Address) -> bool {
    maps::address(key).is_some_and(|again| core::ptr::eq(again, address))
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
        Some(key) => ingress(ctx, &key, at),
        None => Verdict::Pass,
    }
}

#[inline(always)]
pub fn egress_v4(ctx: &TcContext) -> Verdict {
    match key_v4(ctx, SOURCE) {
        Some(key) => egress(ctx, &key),
        None => Verdict::Pass,
    }
}

#[inline(always)]
fn key_v4(ctx: &TcContext, offset: usize) -> Option<AddressKey> {
    let mut address = MaybeUninit::uninit();
    parse::read(ctx, ETHERNET + offset, &mut address).map(|address| AddressKey::v4(*address))
}

/// A packet to `destination`: while that is shut, and not handed to this node, it must not reach the programs of this host.
/// What is sent to the MAC of another host does not, and may be for a guest behind a bridge.
/// Whoever looks at the clock for it leaves in `at` what that said (CLOCK_BOOTTIME ns).
#[inline(always)]
pub fn ingress(ctx: &TcContext, destination: &AddressKey, at: &mut u64) -> Verdict {
    let Some(address) = maps::address(destination) else {
        return Verdict::Pass;
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
    if is_backend(address) {
        return Verdict::Pass;
    }
    maps::count(destination, Counter::DroppedIngress);
    Verdict::Drop
}

/// A packet from `source`. While that is shut nothing made on this host may carry it: not even
/// what an old connection still sends after the address has gone. The holder's packets that this
/// host only forwards do pass.
#[inline(always)]
pub fn egress(ctx: &TcContext, source: &AddressKey) -> Verdict {
    match maps::address(source) {
        Some(address) if parse::made_here(ctx) && !speaks(source, address) => {
            maps::count(source, Counter::DroppedEgress);
            Verdict::Drop
        }
        Some(_) | None => Verdict::Pass,
    }
}

/// Whether IP packets from the address may leave this host.
#[inline(always)]
fn speaks(source: &AddressKey, address: &Address) -> bool {
    is_open(source, address) || hand::serves(source, address) || is_backend(address)
}

/// Whether this host serves the address as a backend of another holder. One whose entry is still open, or handed on, is no
/// backend: it was the holder, and if its lease is over it is silent, whatever else it is.
#[inline(always)]
fn is_backend(address: &Address) -> bool {
    address.flags & (flags::BACKEND | flags::OPEN | flags::HAND) == flags::BACKEND
}

/// Whether an answer that was made on this host may leave as one of the address; counted if not.
#[inline(always)]
pub fn may_speak(source: &AddressKey) -> bool {
    let may = maps::address(source)
        .is_some_and(|address| is_open(source, address) || hand::serves(source, address));
    if !may {
        maps::count(source, Counter::DroppedEgress);
    }
    may
}
