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
const HOPS_V6: usize = ETHERNET + 7;
pub const TCP_CHECKSUM: usize = 16;
pub const UDP_CHECKSUM: usize = 6;

/// Rewrites a packet as its flow says; false: the kernel has no memory to do it in, and the packet
/// is spoilt.
#[inline(always)]
pub fn packet(ctx: &TcContext, packet: &Packet, flow: &Flow, hops: u8) -> bool {
    let (old, new) = (words(&packet.key), flow_words(flow));
    let network = if packet.v4 {
        network_v4(ctx, hops, old, new)
    } else {
        network_v6(ctx, hops, new)
    };
    if packet.later {
        return network;
    }
    let ports = (
        ports(&packet.key),
        word(flow.source_port, flow.destination_port),
    );
    let (checksum, zero) = if packet.key.protocol == protocol::TCP {
        (packet.transport + TCP_CHECKSUM, 0)
    } else {
        (
            packet.transport + UDP_CHECKSUM,
            u64::from(BPF_F_MARK_MANGLED_0),
        )
    };
    let changed = Sum::default().less(old).plus(new).fold32();
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | zero;
    network
        && ctx
            .l4_csum_replace(checksum, 0, changed.into(), pseudo)
            .is_ok()
        && (ports.0 == ports.1 || rewrite_ports(ctx, packet.transport, ports, checksum, zero))
}

#[inline(always)]
fn rewrite_ports(
    ctx: &TcContext,
    at: usize,
    (old, new): (u32, u32),
    checksum: usize,
    zero: u64,
) -> bool {
    let changed = Sum::default().less(&[old]).plus(&[new]).fold32();
    ctx.l4_csum_replace(checksum, 0, changed.into(), zero)
        .is_ok()
        && ctx.store(at, &new, 0).is_ok()
}

/// From the TTL to the end of the fixed header: TTL, protocol, checksum, addresses.
#[inline(always)]
pub fn network_v4(ctx: &TcContext, hops: u8, old: &[u32; 8], new: &[u32; 8]) -> bool {
    let Some(header) = parse::view::<[u16; 2]>(ctx, TTL_V4) else {
        return false;
    };
    let [_, protocol] = header[0].to_ne_bytes();
    let counted = u16::from_ne_bytes([hops, protocol]);
    let checksum = Sum::of(!header[1])
        .less(&[header[0].into()])
        .plus(&[counted.into()])
        .less(old)
        .plus(new)
        .fold16();
    let words = [
        u32::from_ne_bytes(join(counted.to_ne_bytes(), (!checksum).to_ne_bytes())),
        new[3],
        new[7],
    ];
    ctx.store(TTL_V4, &words, 0).is_ok()
}

/// From the hop limit to the end of the header. No checksum of IPv6 makes up for what changes
/// here, so the kernel's own sum over the packet has to follow.
#[inline(always)]
pub fn network_v6(ctx: &TcContext, hops: u8, new: &[u32; 8]) -> bool {
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    ctx.store(HOPS_V6, &hops, flags).is_ok() && ctx.store(HOPS_V6 + 1, new, flags).is_ok()
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
