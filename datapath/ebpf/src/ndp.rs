//! IPv6: neighbour discovery for managed addresses, and the way to the fence for the rest.

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::generated::bpf_skb_change_tail, programs::TcContext};
use vipd_datapath_common::{
    AddressKey, Counter, Entry, flags,
    frame::{ADVERTISEMENT, ALL_NODES, ALL_NODES_MAC, Advertisement, ETHERNET},
};

use crate::{
    balance::encap,
    conflict, fence, maps,
    parse::{self, Header},
    verdict::{self, Verdict, ifindex},
};

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT_TYPE: u8 = 136;
/// A message behind more extension headers than this is not looked into.
const EXTENSIONS: usize = 4;

/// The fixed header of a packet.
#[repr(C)]
struct Ipv6 {
    version: [u8; 4],
    length: [u8; 2],
    next: u8,
    hop_limit: u8,
    source: AddressKey,
    destination: AddressKey,
}

/// A solicitation or an advertisement, without its options.
#[repr(C)]
struct Discovery {
    kind: u8,
    code: u8,
    checksum: [u8; 2],
    flags: u8,
    reserved: [u8; 3],
    target: AddressKey,
}

const HEADER: usize = size_of::<Ipv6>();

// SAFETY: `repr(C)`, bytes only, in both.
unsafe impl Header for Ipv6 {}
unsafe impl Header for Discovery {}

/// The message of neighbour discovery in a packet, if it is one.
#[inline(always)]
fn discovery<'a>(
    ctx: &TcContext,
    ipv6: &Ipv6,
    buffer: &'a mut MaybeUninit<Discovery>,
) -> Option<&'a Discovery> {
    let offset = match ipv6.next {
        ICMPV6 => ETHERNET + HEADER,
        next @ (0 | 43 | 60) => behind_extensions(ctx, next),
        _ => return None,
    };
    parse::read(ctx, offset, buffer)
        .filter(|message| matches!(message.kind, SOLICITATION | ADVERTISEMENT_TYPE))
}

/// Where the ICMPv6 message starts, behind the extension headers that the kernel accepts in front
/// of neighbour discovery (hop-by-hop, routing, destination options; fragments it refuses).
/// Without such a message: beyond any frame.
#[inline(never)]
fn behind_extensions(ctx: &TcContext, mut next: u8) -> usize {
    const NOWHERE: usize = 0xffff;
    let mut offset = ETHERNET + HEADER;
    for _ in 0..EXTENSIONS {
        if !matches!(next, 0 | 43 | 60) {
            break;
        }
        let mut extension = MaybeUninit::<[u8; 2]>::uninit();
        let Some(extension) = parse::read(ctx, offset, &mut extension) else {
            return NOWHERE;
        };
        next = extension[0];
        offset += (usize::from(extension[1]) + 1) * 8;
    }
    if next == ICMPV6 { offset } else { NOWHERE }
}

#[inline(never)]
pub fn ingress(ctx: &TcContext, at: &mut u64) -> Verdict {
    let (mut ipv6, mut message) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let Some(ipv6) = parse::read::<Ipv6>(ctx, ETHERNET, &mut ipv6) else {
        return Verdict::Pass;
    };
    if let Some(message) = discovery(ctx, ipv6, &mut message)
        && !parse::for_another_host(ctx)
        && let Some(address) = maps::address(&message.target)
    {
        if message.kind == SOLICITATION {
            return solicited(ctx, ipv6, &message.target, address);
        }
        let mut mac = MaybeUninit::uninit();
        if let Some(mac) = parse::read::<[u8; 6]>(ctx, 6, &mut mac) {
            conflict::check(&message.target, mac, ifindex(ctx));
        }
    }
    fence::ingress(ctx, &ipv6.destination, at)
}

/// Answers a solicitation for a managed address, or swallows it, so that the kernel never answers.
///
/// A function of its own, as the other never-inlined ones: 512 bytes of stack are all there is.
#[inline(never)]
fn solicited(ctx: &TcContext, ipv6: &Ipv6, target: &AddressKey, address: &Entry) -> Verdict {
    let valid = ipv6.next == ICMPV6 && ipv6.hop_limit == 255;
    let mut mac = MaybeUninit::uninit();
    let Some(mac) = parse::read::<[u8; 6]>(ctx, 6, &mut mac) else {
        return Verdict::Drop;
    };
    if !valid || address.ifindex != ifindex(ctx) || !fence::is_open(target, address) {
        maps::count(target, Counter::Unanswered);
        return Verdict::Drop;
    }
    let router = if address.has(flags::ROUTER) {
        Advertisement::ROUTER
    } else {
        0
    };
    // From the unspecified address: somebody probes whether the address is free. All shall hear
    // that it is not, and nobody in particular asked.
    let (destination_mac, destination, solicited) = if ipv6.source.octets == [0; 16] {
        (&ALL_NODES_MAC, &ALL_NODES, 0)
    } else {
        (mac, &ipv6.source.octets, Advertisement::SOLICITED)
    };
    let frame = Advertisement {
        destination_mac: *destination_mac,
        destination: *destination,
        target: target.octets,
        mac: address.mac,
        flags: router | solicited | Advertisement::OVERRIDE,
    }
    .frame();
    // SAFETY: the context is valid; no pointer into the packet is held across the call.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, ADVERTISEMENT as u32, 0) } != 0
        || ctx.store(0, &frame, 0).is_err()
    {
        return Verdict::Drop;
    }
    maps::count(target, Counter::NdpAnswered);
    Verdict::Answer
}

#[inline(never)]
pub fn egress(ctx: &TcContext) -> Verdict {
    let (mut ipv6, mut message) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let Some(ipv6) = parse::read::<Ipv6>(ctx, ETHERNET, &mut ipv6) else {
        return Verdict::Pass;
    };
    // An advertisement claims its target, whatever its source. A solicitation claims its source,
    // which the fence looks at; its target it only asks for.
    if let Some(message) = discovery(ctx, ipv6, &mut message)
        && message.kind == ADVERTISEMENT_TYPE
        && let Some(address) = maps::address(&message.target)
    {
        let solicited = message.flags & Advertisement::SOLICITED != 0;
        return advertised(&message.target, address, solicited);
    }
    fence::egress(ctx, &ipv6.source, || {
        if verdict::travels_inside(ctx) {
            encap::destination(ctx, false)
        } else {
            Some(words(&ipv6.destination))
        }
    })
}

/// The address in two words, as they lie in memory.
#[inline(always)]
fn words(address: &AddressKey) -> [u64; 2] {
    let [a, b, c, d] = *address.words();
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    [word(a, b), word(c, d)]
}

/// An advertisement that leaves.
#[inline(always)]
fn advertised(target: &AddressKey, address: &Entry, solicited: bool) -> Verdict {
    let (verdict, counter) = match (fence::is_open(target, address), solicited) {
        (true, true) => (Verdict::Pass, None),
        (true, false) => (Verdict::Pass, Some(Counter::AnnouncementPassed)),
        (false, true) => (Verdict::Drop, Some(Counter::DroppedEgress)),
        (false, false) => (Verdict::Drop, Some(Counter::AnnouncementStopped)),
    };
    if let Some(counter) = counter {
        maps::count(target, counter);
    }
    verdict
}
