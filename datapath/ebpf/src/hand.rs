//! Planned moves: a former holder hands packets on, the next one serves them before it is the
//! holder. Why that never makes two speakers: `vipd_datapath_common::handing`.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::{AddressKey, Counter, Entry, flags, frame::ETHERNET, handing};

use crate::{fence, maps, parse, verdict::Verdict};

/// Offsets in a frame.
const SOURCE_MAC: usize = 6;
const TTL: usize = ETHERNET + 8;
const PROTOCOL: usize = ETHERNET + 9;
const CHECKSUM: usize = ETHERNET + 10;
const HOP_LIMIT: usize = ETHERNET + 7;

/// Hands a packet on, if this node may: as a router does it, hop by hop, so that no packet goes
/// round for ever. `None`: the address is shut here like any other.
#[inline(never)]
pub fn on(ctx: &TcContext, key: &AddressKey, address: &Entry) -> Option<Verdict> {
    let now = fence::now();
    let may = now < address.until && (!address.has(flags::LEASED) || now < maps::deadline());
    if !may || address.ifindex != crate::verdict::ifindex(ctx) || !parse::for_this_host(ctx) {
        return None;
    }
    let mut source = MaybeUninit::uninit();
    let source = parse::read::<[u8; 6]>(ctx, SOURCE_MAC, &mut source)?;
    let (to, from) = (address.peer, address.mac);
    if *source == to || !fence::still(key, address) {
        return None;
    }
    if !hop(ctx, key) || ctx.store(0, &to, 0).is_err() || ctx.store(SOURCE_MAC, &from, 0).is_err() {
        return Some(Verdict::Drop);
    }
    maps::count(key, Counter::HandedOn);
    Some(Verdict::Answer)
}

/// Counts a hop down; false when none is left.
#[inline(always)]
fn hop(ctx: &TcContext, key: &AddressKey) -> bool {
    if key.is_v4() {
        let mut word = MaybeUninit::uninit();
        let Some([ttl, protocol]) = parse::read::<[u8; 2]>(ctx, TTL, &mut word) else {
            return false;
        };
        if *ttl <= 1 {
            return false;
        }
        let (old, new) = ([*ttl, *protocol], [*ttl - 1, *protocol]);
        let (before, after) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
        const _: () = assert!(PROTOCOL == TTL + 1);
        ctx.l3_csum_replace(CHECKSUM, before.into(), after.into(), 2)
            .is_ok()
            && ctx.store(TTL, &new[0], 0).is_ok()
    } else {
        let mut limit = MaybeUninit::uninit();
        let Some([limit]) = parse::read::<[u8; 1]>(ctx, HOP_LIMIT, &mut limit) else {
            return false;
        };
        *limit > 1 && ctx.store(HOP_LIMIT, &(*limit - 1), 0).is_ok()
    }
}

/// Whether a packet that came in is for this node to serve: handed on by the holder, or on its
/// heels, when a client has learned where this node is.
#[inline(never)]
pub fn takes(ctx: &TcContext, key: &AddressKey, address: &Entry) -> bool {
    if !address.has(flags::TAKE) || !parse::for_this_host(ctx) {
        return false;
    }
    let mut source = MaybeUninit::uninit();
    let Some(source) = parse::read::<[u8; 6]>(ctx, SOURCE_MAC, &mut source) else {
        return false;
    };
    if *source != address.peer {
        return serves(key, address);
    }
    let now = fence::now();
    if now >= maps::deadline() || !fence::still(key, address) {
        return false;
    }
    maps::set_handed(key, now);
    maps::count(key, Counter::Taken);
    true
}

/// Whether this node speaks for the address in the right of its holder.
#[inline(always)]
pub fn serves(key: &AddressKey, address: &Entry) -> bool {
    if !address.has(flags::TAKE) {
        return false;
    }
    let now = fence::now();
    now < maps::deadline()
        && now.wrapping_sub(maps::handed(key)) < handing::SERVES_NS
        && fence::still(key, address)
}
