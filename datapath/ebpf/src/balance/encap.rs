//! dsr through routers: a packet travels to its backend inside another one, from this host's own
//! address to the backend's, which takes it apart (Linux: a device of type ipip or ip6tnl, or a
//! socket of fou). Nothing of the packet itself changes.
//!
//! ```text
//!   ipip   IP (4 or 41) │ packet
//!   gue    IP (UDP) │ UDP (6080) │ GUE │ packet      the source port tells flows apart, for routers
//! ```

use core::mem::MaybeUninit;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::{helpers::generated::bpf_get_prandom_u32, programs::TcContext};
use vipd_datapath_common::balance::{
    Backend, Complaint, Flow, GUE_PORT, Reason, Service, flow_flags, protocol, service_flags, slot,
};
use vipd_datapath_common::{AddressKey, frame::ETHERNET};

use super::packet::{self, Packet};
use super::translate::Sum;
use super::{count, maps, out, tell};
use crate::{parse, verdict::Verdict};

/// Bytes of the headers.
const IPV4: u32 = 20;
const IPV6: u32 = 40;
const UDP: u32 = 8;
/// Of GUE, variant 0, without any option.
const GUE: u32 = 4;
/// Protocol numbers of an IP packet inside another one.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;
/// TTL and hop limit of outer headers.
const HOPS: u8 = 64;
/// Both ways to wrap.
const WRAPPED: u32 = flow_flags::IPIP | flow_flags::GUE;

/// Where a packet goes, and how.
pub struct Way {
    /// This host's own address.
    source: AddressKey,
    /// The backend.
    destination: AddressKey,
    ifindex: u32,
    /// [`flow_flags::GUE`], or else IP in IP.
    flags: u32,
    service: u32,
    backend: u32,
}

/// What flows of a service say of how their packets are wrapped.
#[inline(always)]
pub const fn flags(service: &Service) -> u32 {
    let ipip = (service.flags & service_flags::IPIP != 0) as u32 * flow_flags::IPIP;
    let gue = (service.flags & service_flags::GUE != 0) as u32 * flow_flags::GUE;
    ipip | gue
}

/// A packet of a dsr flow, or an error about it, on its way to the backend. Never inlined, nor is the next, for
/// the sake of their callers' stack.
#[inline(never)]
pub fn dsr(ctx: &TcContext, packet: &Packet, flow: &Flow) -> Verdict {
    if flow.flags & WRAPPED == 0 || flow.has(flow_flags::LOCAL) {
        return out::onward(flow, packet.v4);
    }
    let way = Way {
        source: flow.source,
        destination: flow.destination,
        ifindex: flow.ifindex,
        flags: flow.flags,
        service: flow.service,
        backend: flow.backend,
    };
    send(ctx, packet, &way)
}

/// The same for a packet of a dsr flow that nothing remembers.
#[inline(never)]
pub fn unrecorded(
    ctx: &TcContext,
    packet: &Packet,
    service: &Service,
    backend: &Backend,
) -> Verdict {
    let flags = flags(service);
    if backend.is_local() {
        return Verdict::Pass;
    }
    if flags == 0 {
        return out::to_neighbour(backend.ifindex, &backend.address, packet.v4);
    }
    let way = Way {
        source: backend.source,
        destination: backend.address,
        ifindex: backend.ifindex,
        flags,
        service: service.id,
        backend: backend.id,
    };
    send(ctx, packet, &way)
}

/// Wraps a packet and sends it. One that does not fit is dropped, and its sender told what would.
#[inline(never)]
fn send(ctx: &TcContext, packet: &Packet, way: &Way) -> Verdict {
    let network = if packet.v4 { IPV4 } else { IPV6 };
    let gue = way.flags & flow_flags::GUE != 0;
    let room = network + if gue { UDP + GUE } else { 0 };
    let Some(mut mtu) = out::mtu(ctx, way.ifindex) else {
        return Verdict::Drop; // The interface has just gone.
    };
    if let Some(backend) = maps::backend(way.backend)
        && backend.mtu != 0
        && backend.mtu < mtu
    {
        mtu = backend.mtu;
    }
    if packet::longest(ctx, packet) + room > mtu {
        count::dropped(way.service, way.backend, Reason::TooBig);
        let fits = mtu.saturating_sub(room);
        return tell::too_big(ctx, packet, fits, Complaint::TooBigInside);
    }
    let inside = ctx.len() - ETHERNET as u32;
    let wrapped = if packet.v4 {
        wrap_v4(ctx, way, inside, room, gue)
    } else {
        wrap_v6(ctx, packet, way, inside, room, gue)
    };
    if !wrapped || (gue && !store_gue(ctx, packet, inside, network)) {
        return Verdict::Drop; // The kernel has no memory to do it in.
    }
    out::by_route(way.ifindex);
    Verdict::Wrapped
}

/// Whom the packet is for that travels inside this one of ours, in two words.
#[inline(always)]
pub fn destination(ctx: &TcContext, v4: bool) -> Option<[u64; 2]> {
    let mut key = MaybeUninit::uninit();
    inside(ctx, v4, &mut key).then(|| {
        // SAFETY: it was written.
        unsafe { key.assume_init() }
    })
}

#[inline(never)]
fn inside(ctx: &TcContext, v4: bool, key: &mut MaybeUninit<[u64; 2]>) -> bool {
    let mut next = [0u8];
    if !parse::read_into(ctx, ETHERNET + if v4 { 9 } else { 6 }, &mut next) {
        return false;
    }
    let more = if next[0] == protocol::UDP {
        UDP + GUE
    } else {
        0
    };
    if v4 {
        let mut address = [0u16; 2];
        let at = ETHERNET + (IPV4 + more) as usize + 16;
        let found = parse::read_into(ctx, at, &mut address);
        key.write(parse::mapped(address));
        found
    } else {
        let mut address = [0u16; 8];
        let at = ETHERNET + (IPV6 + more) as usize + 24;
        let found = parse::read_into(ctx, at, &mut address);
        let word = |i: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|n| u64::from(address[i + n]));
            a | b << 16 | c << 32 | d << 48
        };
        key.write([word(0), word(4)]);
        found
    }
}

/// May be fragmented on its way, since nobody could tell the client what a router says of the outer
/// packet: so it has an identification, and the backend puts it together.
#[inline(always)]
fn wrap_v4(ctx: &TcContext, way: &Way, inside: u32, room: u32, gue: bool) -> bool {
    let mut service_class = [0u8];
    if !parse::read_into(ctx, ETHERNET + 1, &mut service_class) {
        return false;
    }
    let mut flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
    let mut next = IPV4_INSIDE;
    if gue {
        flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
        next = protocol::UDP;
    }
    let [a, b] = length(inside + room);
    // SAFETY: a helper without arguments.
    let [c, d, ..] = unsafe { bpf_get_prandom_u32() }.to_ne_bytes();
    let mut header = [
        u32::from_ne_bytes([0x45, service_class[0], a, b]),
        u32::from_ne_bytes([c, d, 0, 0]),
        u32::from_ne_bytes([HOPS, next, 0, 0]),
        last(&way.source),
        last(&way.destination),
    ];
    let [e, f] = (!Sum::default().plus(&header).fold16()).to_ne_bytes();
    header[2] = u32::from_ne_bytes([HOPS, next, e, f]);
    ctx.adjust_room(room as i32, BPF_ADJ_ROOM_MAC, flags.into())
        .is_ok()
        && ctx
            .store(ETHERNET, &header, BPF_F_RECOMPUTE_CSUM.into())
            .is_ok()
}

/// Its flow label tells flows apart, for routers.
#[inline(always)]
fn wrap_v6(ctx: &TcContext, packet: &Packet, way: &Way, inside: u32, room: u32, gue: bool) -> bool {
    let mut first = MaybeUninit::<[u8; 2]>::uninit();
    let Some([version, class]) = parse::read(ctx, ETHERNET, &mut first).copied() else {
        return false;
    };
    let mut flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
    let mut next = IPV6_INSIDE;
    if gue {
        flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
        next = protocol::UDP;
    }
    let [a, b] = label(packet);
    let [c, d] = length(inside + room - IPV6);
    let header = [
        u32::from_ne_bytes([version, class & 0xf0, a, b]),
        u32::from_ne_bytes([c, d, next, HOPS]),
    ];
    ctx.adjust_room(room as i32, BPF_ADJ_ROOM_MAC, flags.into())
        .is_ok()
        && ctx
            .store(ETHERNET, &header, BPF_F_RECOMPUTE_CSUM.into())
            .is_ok()
        && ctx
            .store(ETHERNET + 8, &way.source, BPF_F_RECOMPUTE_CSUM.into())
            .is_ok()
        && ctx
            .store(ETHERNET + 24, &way.destination, BPF_F_RECOMPUTE_CSUM.into())
            .is_ok()
}

/// The headers of UDP and GUE behind that of IP. No checksum: that of the packet inside covers what
/// matters (over IPv6: RFC 6935, and sockets of fou take it so).
#[inline(always)]
fn store_gue(ctx: &TcContext, packet: &Packet, inside: u32, network: u32) -> bool {
    let [a, b] = label(packet);
    let [c, d] = GUE_PORT.to_be_bytes();
    let [e, f] = length(inside + UDP + GUE);
    let next = if packet.v4 { IPV4_INSIDE } else { IPV6_INSIDE };
    let headers = [
        // The ports that nobody registers begin at 49,152.
        u32::from_ne_bytes([0xc0 | a, b, c, d]),
        u32::from_ne_bytes([e, f, 0, 0]),
        u32::from_ne_bytes([0, next, 0, 0]),
    ];
    ctx.store(
        ETHERNET + network as usize,
        &headers,
        BPF_F_RECOMPUTE_CSUM.into(),
    )
    .is_ok()
}

/// The same for all packets of a flow: less than 2^13.
#[inline(always)]
fn label(packet: &Packet) -> [u8; 2] {
    (slot(&packet.key) as u16).to_be_bytes()
}

/// A length in 16 bits; 0 where it is of a packet that is yet to be taken apart and does not fit.
#[inline(always)]
const fn length(bytes: u32) -> [u8; 2] {
    if bytes > 0xffff {
        [0; 2]
    } else {
        (bytes as u16).to_be_bytes()
    }
}

#[inline(always)]
const fn last(address: &AddressKey) -> u32 {
    let [.., a, b, c, d] = address.octets;
    u32::from_ne_bytes([a, b, c, d])
}
