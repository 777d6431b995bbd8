//! ICMP errors of the holder's own, about packets that it cannot send on: from the address that a
//! packet was for, back to whoever sent it.

use core::{hint::black_box, mem::MaybeUninit, ptr};

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_skb_change_tail, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Complaint, FlowKey, protocol};
use vipd_datapath_common::{AddressKey, frame::ETHERNET};

use super::translate::{Sum, TCP_CHECKSUM, UDP_CHECKSUM, words};
use super::{guard, packet::Packet};
use crate::{fence, parse, verdict::Verdict};

/// Most bytes of the packet that are quoted: its headers with all their options, a multiple of four.
const QUOTED: u32 = 128;
const HEADER: u32 = 8;
const IPV4: u32 = 20;
const IPV6: u32 = 40;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOPS: u8 = 64;
/// "Internetwork control", as Linux marks errors.
const CONTROL: u8 = 0xc0;

/// No sender of IPv6 sends less, whatever it is told.
const LEAST_V6: u32 = 1280;

/// Leaves to [`sender`] a packet that no hop is left for.
#[inline(always)]
pub fn no_hops(ctx: &TcContext) -> Verdict {
    leave(ctx, Complaint::Hops, 0)
}

/// Leaves to [`sender`] a packet that is greater than the `mtu` bytes of IP that can be sent on.
#[inline(always)]
pub fn too_big(ctx: &TcContext, packet: &Packet, mtu: u32, kind: Complaint) -> Verdict {
    // IPv4 has 16 bits for it, behind 16 of zeros.
    let (least, most) = if packet.v4 {
        (0, u32::from(u16::MAX))
    } else {
        (LEAST_V6, u32::MAX)
    };
    let told = if mtu < least {
        least
    } else if mtu > most {
        most
    } else {
        mtu
    };
    leave(ctx, kind, told)
}

#[inline(always)]
fn leave(ctx: &TcContext, kind: Complaint, mtu: u32) -> Verdict {
    // SAFETY: the context is valid while the program runs, and these words of it are the program's.
    unsafe {
        let words = &raw mut (*ctx.skb.skb).cb;
        (*words)[0] = kind as u32;
        (*words)[1] = mtu;
    }
    Verdict::Complain
}

/// Tells the sender of a packet why it goes no further. From the address that it was for, as netfilter and IPVS have it: clients
/// know no other of this host, and firewalls on the way let pass what comes from there.
///
/// "Too big" also where the sender allows fragments: it makes them then.
#[inline(always)]
pub fn sender(ctx: &TcContext, packet: &Packet) -> Verdict {
    // SAFETY: as above.
    let [account, mtu, ..] = unsafe { (*ctx.skb.skb).cb };
    let kind = match (account == Complaint::Hops as u32, packet.v4) {
        (true, true) => [11, 0],
        (true, false) => [3, 0],
        (false, true) => [3, 4],
        (false, false) => [2, 0],
    };
    if !deserves(ctx, packet) || !guard::may_complain(fence::now(), account) {
        return Verdict::Drop;
    }
    error(ctx, packet, kind, mtu.to_be())
}

/// Whether anybody may be told: not of errors and later pieces of packets, not by whoever sends to many at a time, nor by a
/// source that is no single host (RFC 1812, 4.3.2.7; RFC 4443, 2.4 (e)).
#[inline(always)]
fn deserves(ctx: &TcContext, packet: &Packet) -> bool {
    let about = matches!(packet.key.protocol, protocol::TCP | protocol::UDP) && !packet.later;
    about && parse::for_this_host(ctx) && is_one_host(&packet.key.source, packet.v4)
}

/// Neither unspecified nor of the host itself, nor multicast, broadcast or reserved.
#[inline(always)]
fn is_one_host(source: &AddressKey, v4: bool) -> bool {
    let first = source.octets[if v4 { 12 } else { 0 }];
    if v4 {
        !matches!(first, 0 | 127 | 224..)
    } else {
        let [a, b, c, d] = *source.words();
        first != 0xff && (a | b | c != 0 || u32::from_be(d) > 1)
    }
}

/// Makes an error of type and code `kind`, with this second word (in network order), of the packet.
#[inline(never)]
fn error(ctx: &TcContext, packet: &Packet, kind: [u8; 2], word: u32) -> Verdict {
    let mut macs = MaybeUninit::<[u16; 6]>::uninit();
    let Some([a, b, c, d, e, f]) = parse::read(ctx, 0, &mut macs).copied() else {
        return Verdict::Drop;
    };
    let quoted = quotable(ctx);
    let pending = pending(ctx, packet);
    let Some(sum) = quote(ctx, packet, quoted, pending) else {
        return Verdict::Drop;
    };
    let sum = sum.plus(&[u32::from_ne_bytes([kind[0], kind[1], 0, 0]), word]);
    let made = if packet.v4 {
        let checksum = !sum.fold16();
        header_v4(ctx, &packet.key, quoted)
            && store_icmp(ctx, ETHERNET + IPV4 as usize, kind, checksum, word)
    } else {
        let length = HEADER + quoted;
        let pseudo = [length.to_be(), u32::from(ICMPV6).to_be()];
        let checksum = !sum.plus(words(&packet.key)).plus(&pseudo).fold16();
        header_v6(ctx, &packet.key, length)
            && store_icmp(ctx, ETHERNET + IPV6 as usize, kind, checksum, word)
    };
    // Back where it came from.
    if made && ctx.store(0, &[d, e, f, a, b, c], 0).is_ok() {
        Verdict::Answer
    } else {
        Verdict::Drop
    }
}

/// The TCP or UDP checksum of a packet where it is yet to be filled in by whoever puts the packet on a wire, as a virtual
/// machine's neighbour leaves it: till then it holds the sum of the pseudo-header. The kernel does not say whether it is so, but what it
/// makes of a change shows it: it leaves alone what is not done yet.
#[inline(always)]
fn pending(ctx: &TcContext, packet: &Packet) -> Option<u16> {
    let at = packet.transport
        + if packet.key.protocol == protocol::TCP {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        };
    let (mut before, mut after) = ([0u16], [0u16]);
    if !parse::read_into(ctx, at, &mut before)
        || ctx.l4_csum_replace(at, 0, 1, 0).is_err()
        || !parse::read_into(ctx, at, &mut after)
    {
        return None;
    }
    if before == after {
        return Some(before[0]);
    }
    // Fails where the change did; then the packet is dropped anyway.
    let _ = ctx.store(at, &before, 0);
    None
}

/// How much of the packet is quoted: 4 to [`QUOTED`] bytes, as the verifier can see.
#[inline(always)]
fn quotable(ctx: &TcContext) -> u32 {
    let all = ctx.len().saturating_sub(ETHERNET as u32 + 4);
    let more = if all > QUOTED - 4 { QUOTED - 4 } else { all };
    const { assert!(QUOTED - 4 == 0x7c) };
    (black_box(more) & 0x7c) + 4
}

/// Cuts the packet down to what is quoted; the sum of that. Where a checksum is `pending`, whoever fills it in does so in the quotation,
/// from the TCP or UDP header to its end: then that sums up to the complement of what was there. `None` also where the
/// header of IPv4 is spoilt: who knows whose it was.
#[inline(always)]
fn quote(ctx: &TcContext, packet: &Packet, quoted: u32, pending: Option<u16>) -> Option<Sum> {
    const AT: u32 = ETHERNET as u32;
    let mut words = [0u32; QUOTED as usize / 4];
    let skb = ctx.skb.skb;
    let header = black_box((packet.transport - ETHERNET) as u32) & 0x7c;
    // SAFETY: the context is valid, and there are QUOTED bytes to write to, and no more are summed up.
    let (header, all) = unsafe {
        let words = words.as_mut_ptr();
        if bpf_skb_load_bytes(skb.cast(), AT, words.cast(), quoted) != 0 {
            return None;
        }
        let sum = |length| bpf_csum_diff(ptr::null_mut(), 0, words, length, 0) as u32;
        (sum(header), sum(QUOTED))
    };
    if packet.v4 && Sum::default().plus(&[header]).fold16() != u16::MAX {
        return None;
    }
    // SAFETY: as above.
    if unsafe { bpf_skb_change_tail(skb, AT + quoted, 0) } != 0 {
        return None;
    }
    Some(match pending {
        Some(pseudo) => Sum::of(!pseudo).plus(&[header]),
        None => Sum::default().plus(&[all]),
    })
}

/// Makes room for the headers in front of what is quoted, and writes that of IP.
#[inline(always)]
fn header_v4(ctx: &TcContext, key: &FlowKey, quoted: u32) -> bool {
    let [a, b] = ((IPV4 + HEADER + quoted) as u16).to_be_bytes();
    let addresses = words(key);
    let mut header = [
        u32::from_ne_bytes([0x45, CONTROL, a, b]),
        u32::from_ne_bytes([0, 0, 0x40, 0]), // not to be fragmented
        u32::from_ne_bytes([HOPS, ICMP, 0, 0]),
        addresses[7],
        addresses[3],
    ];
    let [c, d] = (!Sum::default().plus(&header).fold16()).to_ne_bytes();
    header[2] = u32::from_ne_bytes([HOPS, ICMP, c, d]);
    ctx.adjust_room((IPV4 + HEADER) as i32, BPF_ADJ_ROOM_MAC, 0)
        .is_ok()
        && ctx
            .store(ETHERNET, &header, BPF_F_RECOMPUTE_CSUM.into())
            .is_ok()
}

#[inline(always)]
fn header_v6(ctx: &TcContext, key: &FlowKey, length: u32) -> bool {
    let [a, b] = (length as u16).to_be_bytes();
    let header = [
        u32::from_ne_bytes([0x60, 0, 0, 0]),
        u32::from_ne_bytes([a, b, ICMPV6, HOPS]),
    ];
    let store = BPF_F_RECOMPUTE_CSUM.into();
    ctx.adjust_room((IPV6 + HEADER) as i32, BPF_ADJ_ROOM_MAC, 0)
        .is_ok()
        && ctx.store(ETHERNET, &header, store).is_ok()
        && ctx.store(ETHERNET + 8, &key.destination, store).is_ok()
        && ctx.store(ETHERNET + 24, &key.source, store).is_ok()
}

#[inline(always)]
fn store_icmp(ctx: &TcContext, at: usize, [a, b]: [u8; 2], checksum: u16, word: u32) -> bool {
    let [c, d] = checksum.to_ne_bytes();
    let header = [u32::from_ne_bytes([a, b, c, d]), word];
    ctx.store(at, &header, BPF_F_RECOMPUTE_CSUM.into()).is_ok()
}
