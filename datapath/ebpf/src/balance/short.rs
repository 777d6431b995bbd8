//! The short way: packets of open flows go on from the driver of the network card (XDP), without the kernel making a
//! packet of its own of them.
//!
//! ```text
//!   wire ──▶ vipd_xdp ── an open flow, out of the same interface ──▶ wire
//!               └── anything else, untouched ──▶ vipd_ingress, and so on
//! ```
//!
//! **Invariant:** it does what ingress would do, with the same bytes, or nothing. What may only sometimes be done, or
//! changes more of a flow than its counts, is left to ingress: the programs behind are the one truth.
//!
//! **Invariant:** egress does not see what leaves from here, so here is judged what it would judge. Both judge the
//! address that the packet came for: with nat it leaves as that address, which is tested; with dsr it still is to it.
//! Between the judgement and the card a packet waits until the driver's poll ends, at most.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use aya_ebpf::programs::XdpContext;
use vipd_datapath_common::balance::{Direction, Flow, flow_flags, protocol};
use vipd_datapath_common::{Entry, frame::ETHERNET};

use super::packet::{self, Packet};
use super::translate::{
    IPV4, Sum, TCP_CHECKSUM, UDP_CHECKSUM, flow_words, moved_v4, ports, word, words,
};
use super::{count, maps};
use crate::{fence, maps as addresses, parse};

const IPV6: usize = 40;
/// One packet of each half in 2^34 ns (17 s) goes the long way: there the kernel hears that a neighbour is in use, and asks
/// whether it is still there. On this way nobody would ever ask.
const LONG_WAY: u32 = 34;

/// What becomes of a frame that enters.
#[inline(always)]
pub fn accelerate(ctx: &mut XdpContext) -> u32 {
    match sent_on(ctx) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_PASS,
    }
}

/// Sends a packet on; `None`: it is as it came.
#[inline(always)]
fn sent_on(ctx: &mut XdpContext) -> Option<()> {
    let mut packet = Packet::EMPTY;
    packet::read_plain(ctx, &mut packet)?;
    let key = &packet.key;
    let entry = addresses::address(&key.destination)?;
    let now = fence::balances(&key.destination, entry)?;
    let ifindex = ctx.ingress_ifindex() as u32;
    if entry.ifindex != ifindex || !is_for(ctx, entry)? {
        return None;
    }
    let place = maps::flow(key)?;
    let mut copy = MaybeUninit::uninit();
    let flow = place.flow(key, &mut copy)?;
    if flow.ifindex != ifindex
        || !is_open(&packet, flow)
        || flow.seen >> LONG_WAY != now >> LONG_WAY
    {
        return None;
    }
    let (begin, end) = parse::Frame::bounds(ctx);
    let bytes = (end - begin) as u64;
    let macs = next_hop(ctx, &packet, flow, bytes)?;
    // From here on nothing fails: the lengths have been tested, but for the verifier's eyes.
    if !flow.has(flow_flags::DSR) {
        translate(ctx, &packet, flow)?;
    }
    *parse::view_mut::<[u16; 6]>(ctx, 0)? = macs;
    place.saw(now, 1, bytes);
    let direction = if flow.has(flow_flags::REVERSE) {
        Direction::Reverse
    } else {
        Direction::Forward
    };
    count::passed(flow.service, flow.backend, direction, 1, bytes);
    Some(())
}

/// Whether the frame was sent to the interface, not to another host or to many.
#[inline(always)]
fn is_for(ctx: &XdpContext, entry: &Entry) -> Option<bool> {
    let [a, b, c, d, e, f] = entry.mac;
    let mac = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
    Some(*parse::view::<[u16; 3]>(ctx, 0)? == mac)
}

/// Whether the packet changes nothing of its flow but the counts, and goes on to another host.
#[inline(always)]
fn is_open(packet: &Packet, flow: &Flow) -> bool {
    const TURNS: u8 = packet::tcp::SYN | packet::tcp::FIN | packet::tcp::RST;
    const LONG: u32 = flow_flags::LOCAL | flow_flags::IPIP | flow_flags::GUE;
    if flow.flags & LONG != 0 || packet.tcp & TURNS != 0 {
        return false;
    }
    if packet.key.protocol == protocol::TCP && flow.progress.established == 0 {
        return false;
    }
    // See the invariant: it leaves as the address that was found open.
    let leaves_as = flow.source.words() == packet.key.destination.words();
    flow.has(flow_flags::DSR) || (packet.hops > 1 && leaves_as)
}

/// `struct bpf_fib_lookup` of linux/bpf.h; numbers are in the host's order, but for ports and addresses.
#[repr(C)]
struct Route {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    length: u16,
    ifindex: u32,
    /// IPv4: the type of service; IPv6: class and label.
    class: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: [u16; 2],
    /// Source, then destination.
    macs: [u16; 6],
}

const _: () = assert!(size_of::<Route>() == 64);
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// BPF_FIB_LOOKUP_OUTPUT: as if the packet were sent from here, out of the interface.
const OUTPUT: u32 = 2;
/// BPF_FIB_LKUP_RET_SUCCESS: a route, and a neighbour whose MAC is known.
const FOUND: i64 = 0;

/// The MACs with which the packet leaves, by the routes and neighbours of the host; `None` where the kernel does not know them
/// at once, or they are not out of the interface that it came in on.
#[inline(always)]
fn next_hop(ctx: &mut XdpContext, packet: &Packet, flow: &Flow, bytes: u64) -> Option<[u16; 6]> {
    let ip = parse::view::<[u16; 4]>(ctx, ETHERNET)?;
    let new = flow_words(flow);
    let to = [new[4], new[5], new[6], new[7]];
    let dsr = flow.has(flow_flags::DSR);
    let from = if dsr {
        [0; 4]
    } else {
        [new[0], new[1], new[2], new[3]]
    };
    let mut route = Route {
        family: 0,
        protocol: packet.key.protocol,
        ports: [0; 2],
        // As long as it is, whatever its header says: so ingress looks at what the link carries.
        length: (bytes - ETHERNET as u64) as u16,
        ifindex: flow.ifindex,
        class: 0,
        source: [0; 4],
        destination: [0; 4],
        vlan: [0; 2],
        macs: [0; 6],
    };
    if packet.v4 {
        route.family = AF_INET;
        route.class = ip[0].to_ne_bytes()[1].into();
        (route.source[0], route.destination[0]) = (from[3], to[3]);
    } else {
        const FLOW_INFO: u32 = 0x0fff_ffff;
        route.family = AF_INET6;
        route.class = (u32::from(ip[0]) | u32::from(ip[1]) << 16) & FLOW_INFO.to_be();
        (route.source, route.destination) = (from, to);
    }
    let asked = route.destination;
    // SAFETY: the context is valid, and the helper reads and writes the parameters, which are there.
    let result = unsafe {
        let length = size_of::<Route>() as i32;
        bpf_fib_lookup(ctx.ctx.cast(), (&raw mut route).cast(), length, OUTPUT)
    };
    if result != FOUND || route.ifindex != flow.ifindex {
        return None;
    }
    // With dsr a router would find the packet to be for this host again.
    if dsr && route.destination != asked {
        return None;
    }
    let [a, b, c, d, e, f] = route.macs;
    Some([d, e, f, a, b, c])
}

/// Rewrites addresses, ports, hops and checksums. Those are complete: what comes from a wire has them filled in.
#[inline(always)]
fn translate(ctx: &mut XdpContext, packet: &Packet, flow: &Flow) -> Option<()> {
    let (old, new) = (words(&packet.key), flow_words(flow));
    let after = word(flow.source_port, flow.destination_port);
    let turned = Sum::default().less(&[ports(&packet.key)]).plus(&[after]);
    let halves = |word: u32| [word as u16, (word >> 16) as u16];
    let hops = packet.hops - 1;
    if packet.v4 {
        let moved = moved_v4(old, new);
        let ip = parse::view_mut::<[u16; IPV4 / 2]>(ctx, ETHERNET)?;
        let [_, protocol] = ip[4].to_ne_bytes();
        let counted = u16::from_ne_bytes([hops, protocol]);
        ip[5] = !Sum::of(!ip[5])
            .and(moved)
            .less(&[ip[4].into()])
            .plus(&[counted.into()])
            .fold16();
        ip[4] = counted;
        [ip[6], ip[7]] = halves(new[3]);
        [ip[8], ip[9]] = halves(new[7]);
        transport::<{ ETHERNET + IPV4 }>(ctx, packet, after, turned.and(moved))
    } else {
        let moved = Sum::default().less(old).plus(new);
        let ip = parse::view_mut::<[u16; IPV6 / 2]>(ctx, ETHERNET)?;
        let [next, _] = ip[3].to_ne_bytes();
        ip[3] = u16::from_ne_bytes([next, hops]);
        let mut i = 0;
        while i < 8 {
            [ip[4 + 2 * i], ip[5 + 2 * i]] = halves(new[i]);
            i += 1;
        }
        transport::<{ ETHERNET + IPV6 }>(ctx, packet, after, turned.and(moved))
    }
}

/// Ports and checksum of the header of TCP or UDP at `AT`. A datagram over IPv4 may have no checksum: then it gets none.
#[inline(always)]
fn transport<const AT: usize>(
    ctx: &mut XdpContext,
    packet: &Packet,
    ports: u32,
    sum: Sum,
) -> Option<()> {
    const NONE: u16 = 0;
    let ports = [ports as u16, (ports >> 16) as u16];
    if packet.key.protocol == protocol::TCP {
        let header = parse::view_mut::<[u16; 10]>(ctx, AT)?;
        [header[0], header[1]] = ports;
        let checksum = &mut header[TCP_CHECKSUM / 2];
        *checksum = !Sum::of(!*checksum).and(sum).fold16();
    } else {
        let header = parse::view_mut::<[u16; 4]>(ctx, AT)?;
        [header[0], header[1]] = ports;
        let checksum = &mut header[UDP_CHECKSUM / 2];
        if *checksum != NONE {
            let new = !Sum::of(!*checksum).and(sum).fold16();
            *checksum = if new == NONE { !NONE } else { new };
        }
    }
    Some(())
}
