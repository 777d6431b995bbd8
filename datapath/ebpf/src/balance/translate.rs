//! Rewrites addresses, ports and hops, and all checksums that cover them.
//!
//! Checksums change by the difference of what they cover. That of TCP and UDP goes through the
//! kernel's helper, which knows whether it is complete, or is still to be finished by the network
//! card: then it covers the addresses, but not the ports.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Flow, FlowKey, protocol};
use vipd_datapath_common::frame::ETHERNET;

use super::packet::Packet;
use crate::parse;

/// Offsets in the headers.
const TTL_V4: usize = ETHERNET + 8;
pub const IPV4: usize = 20;
pub const TCP_CHECKSUM: usize = 16;
pub const UDP_CHECKSUM: usize = 6;

/// Rewrites a packet as its flow says; false: the kernel has no memory to do it in, and the packet
/// is spoilt.
#[inline(always)]
pub fn packet(ctx: &TcContext, packet: &Packet, flow: &Flow, hops: u8) -> bool {
    if packet.v4 {
        packet_v4(ctx, packet, flow, hops)
    } else {
        packet_v6(ctx, packet, flow, hops)
    }
}

#[inline(always)]
fn packet_v4(ctx: &TcContext, packet: &Packet, flow: &Flow, hops: u8) -> bool {
    let (old, new) = (words(&packet.key), flow_words(flow));
    let (moved, to) = (moved_v4(old, new), [new[3], new[7]]);
    if packet.later {
        return network_v4(ctx, hops, moved, to, None);
    }
    let ports = Ports::of(packet, flow);
    // Ports that follow the addresses are written with them.
    let adjacent = packet.transport == ETHERNET + IPV4;
    network_v4(ctx, hops, moved, to, adjacent.then_some(ports.new))
        && transport(ctx, packet, moved, &ports)
        && (adjacent || ports.store(ctx, packet))
}

/// Never inlined, so that the other family has the registers to itself.
#[inline(never)]
fn packet_v6(ctx: &TcContext, packet: &Packet, flow: &Flow, hops: u8) -> bool {
    let (old, new) = (words(&packet.key), flow_words(flow));
    if !network_v6(ctx, hops, new) {
        return false;
    }
    if packet.later {
        return true;
    }
    let ports = Ports::of(packet, flow);
    let moved = Sum::default().less(old).plus(new);
    transport(ctx, packet, moved, &ports) && ports.store(ctx, packet)
}

/// Both ports, before and after.
struct Ports {
    old: u32,
    new: u32,
}

impl Ports {
    #[inline(always)]
    fn of(packet: &Packet, flow: &Flow) -> Self {
        Self {
            old: ports(&packet.key),
            new: word(flow.source_port, flow.destination_port),
        }
    }

    #[inline(always)]
    fn store(&self, ctx: &TcContext, packet: &Packet) -> bool {
        self.old == self.new || ctx.store(packet.transport, &self.new, 0).is_ok()
    }
}

/// The checksum of TCP or UDP, of which the addresses are part as well.
#[inline(always)]
fn transport(ctx: &TcContext, packet: &Packet, moved: Sum, ports: &Ports) -> bool {
    let (at, zero) = if packet.key.protocol == protocol::TCP {
        (TCP_CHECKSUM, 0)
    } else {
        (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let at = packet.transport + at;
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | zero;
    if ctx
        .l4_csum_replace(at, 0, moved.fold32().into(), pseudo)
        .is_err()
    {
        return false;
    }
    if ports.old == ports.new {
        return true;
    }
    let changed = Sum::default().less(&[ports.old]).plus(&[ports.new]);
    ctx.l4_csum_replace(at, 0, changed.fold32().into(), zero)
        .is_ok()
}

/// What a change of IPv4 addresses adds to checksums.
#[inline(always)]
pub fn moved_v4(old: &[u32; 8], new: &[u32; 8]) -> Sum {
    Sum::default()
        .less(&[old[3], old[7]])
        .plus(&[new[3], new[7]])
}

/// From the TTL to the end of the fixed header: TTL, protocol, checksum, addresses; and the ports
/// behind it, if any. In words of eight bytes, as the helper copies them.
#[inline(always)]
pub fn network_v4(
    ctx: &TcContext,
    hops: u8,
    moved: Sum,
    [source, destination]: [u32; 2],
    ports: Option<u32>,
) -> bool {
    let Some(header) = parse::view::<[u16; 2]>(ctx, TTL_V4) else {
        return false;
    };
    let [_, protocol] = header[0].to_ne_bytes();
    let counted = u16::from_ne_bytes([hops, protocol]);
    let checksum = !Sum::of(!header[1])
        .and(moved)
        .less(&[header[0].into()])
        .plus(&[counted.into()])
        .fold16();
    let first = u64::from(counted) | u64::from(checksum) << 16 | u64::from(source) << 32;
    match ports {
        Some(ports) => {
            let second = u64::from(destination) | u64::from(ports) << 32;
            ctx.store(TTL_V4, &[first, second], 0).is_ok()
        }
        None => {
            ctx.store(TTL_V4, &first, 0).is_ok() && ctx.store(TTL_V4 + 8, &destination, 0).is_ok()
        }
    }
}

/// The whole header of IPv6, with another hop limit and other addresses. No checksum of it makes up for what changes
/// here, so the kernel's own sum over the packet has to follow.
#[inline(always)]
pub fn network_v6(ctx: &TcContext, hops: u8, new: &[u32; 8]) -> bool {
    let Some(header) = parse::view::<[u16; 4]>(ctx, ETHERNET) else {
        return false;
    };
    let [next, _] = header[3].to_ne_bytes();
    let last = u16::from_ne_bytes([next, hops]);
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    let whole = [
        word(pair(header[0], header[1]), pair(header[2], last)),
        word(new[0], new[1]),
        word(new[2], new[3]),
        word(new[4], new[5]),
        word(new[6], new[7]),
    ];
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    ctx.store(ETHERNET, &whole, flags).is_ok()
}

/// Both ports of a key in a word.
#[inline(always)]
pub const fn ports(key: &FlowKey) -> u32 {
    word(key.source_port, key.destination_port)
}

const fn join([a, b]: [u8; 2], [c, d]: [u8; 2]) -> [u8; 4] {
    [a, b, c, d]
}

pub const fn word(a: [u8; 2], b: [u8; 2]) -> u32 {
    u32::from_ne_bytes(join(a, b))
}

/// Both addresses in words, as they lie in memory. The prefix of a mapped IPv4 address is in the old
/// ones and in the new ones, and cancels out of differences.
#[inline(always)]
pub fn words(key: &FlowKey) -> &[u32; 8] {
    // SAFETY: it begins with two addresses of 16 bytes each, and is aligned to 8.
    unsafe { &*core::ptr::from_ref(key).cast() }
}

#[inline(always)]
pub fn flow_words(flow: &Flow) -> &[u32; 8] {
    const _: () = assert!(core::mem::offset_of!(Flow, destination) == 16);
    // SAFETY: as above.
    unsafe { &*core::ptr::from_ref(flow).cast() }
}

/// A sum in ones' complement, whose carries are still to be added. Words may be in any byte order,
/// as long as all are in the same.
#[derive(Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    #[inline(always)]
    pub const fn of(word: u16) -> Self {
        Self(word as u64)
    }

    /// The sum of both.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    #[inline(always)]
    pub fn plus(self, words: &[u32]) -> Self {
        Self(
            words
                .iter()
                .fold(self.0, |sum, word| sum + u64::from(*word)),
        )
    }

    #[inline(always)]
    pub fn less(self, words: &[u32]) -> Self {
        Self(
            words
                .iter()
                .fold(self.0, |sum, word| sum + u64::from(!*word)),
        )
    }

    #[inline(always)]
    pub const fn fold32(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    #[inline(always)]
    pub const fn fold16(self) -> u16 {
        let sum = self.fold32() as u64;
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }
}
