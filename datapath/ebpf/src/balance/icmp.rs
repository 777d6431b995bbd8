//! ICMP errors about packets of flows: they go to whoever sent the packet in question, and speak of
//! it as it was sent. Path MTU discovery lives by them.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_F_PSEUDO_HDR;
use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Flow, FlowKey, flow_flags, protocol};

use super::packet::Packet;
use super::translate::{self, Sum, TCP_CHECKSUM, UDP_CHECKSUM, flow_words, ports, word, words};
use super::{encap, forward, maps, out};
use crate::{fence, parse, verdict::Verdict};

/// Of an ICMP header, in front of the packet in question.
const HEADER: usize = 8;
const CHECKSUM: usize = 2;
const IPV4: usize = 20;
const IPV6: usize = 40;

/// The packet that an error is about, as far as it is quoted.
struct Quoted {
    /// The key of what is sent in answer to it: that comes the way of its flow.
    answer: FlowKey,
    /// Offset of its IP header in the frame.
    at: usize,
    /// Offset of its TCP or UDP header.
    transport: usize,
    /// IPv4: checksum of its header.
    checksum: u16,
}

impl Quoted {
    const EMPTY: Self = Self {
        answer: Packet::EMPTY.key,
        at: 0,
        transport: 0,
        checksum: 0,
    };
}

/// Whether an ICMP type is that of an error with a quotation.
#[inline(always)]
pub const fn is_error(v4: bool, kind: u8) -> bool {
    if v4 {
        matches!(kind, 3 | 11 | 12)
    } else {
        matches!(kind, 1..=4)
    }
}

/// An error that came in; `packet` has its own addresses, and no ports.
#[inline(never)]
pub fn ingress(ctx: &TcContext, packet: &Packet) -> Verdict {
    let mut quoted = Quoted::EMPTY;
    if !self::quoted(ctx, packet, &mut quoted) {
        return Verdict::Pass;
    }
    let answer = &quoted.answer;
    let mut copy = MaybeUninit::uninit();
    let Some(flow) = maps::flow(answer).and_then(|place| place.flow(answer, &mut copy)) else {
        return Verdict::Pass;
    };
    if flow.has(flow_flags::DSR) {
        return encap::dsr(ctx, packet, flow);
    }
    if forward::ends_here(packet, flow) {
        return Verdict::Drop;
    }
    // Nobody translates answers to whoever complains to a backend on this host, or to one that sees clients' addresses.
    let keeps_source = flow.flags & (flow_flags::LOCAL | flow_flags::KEEP) != 0;
    if !translate(ctx, packet, &quoted, flow, keeps_source) {
        return Verdict::Drop;
    }
    out::onward(flow, packet.v4)
}

/// An error that came in to no managed address: about a packet to a backend that sees the client's address, to that client.
/// From the virtual IP, as all that comes from behind it.
#[inline(never)]
pub fn relay(ctx: &TcContext, packet: &Packet) -> Verdict {
    let mut quoted = Quoted::EMPTY;
    if !self::quoted(ctx, packet, &mut quoted) {
        return Verdict::Pass;
    }
    let answer = &quoted.answer;
    let mut copy = MaybeUninit::uninit();
    let Some(flow) = maps::flow(answer).and_then(|place| place.flow(answer, &mut copy)) else {
        return Verdict::Pass;
    };
    if !flow.has(flow_flags::REVERSE | flow_flags::KEEP) {
        return Verdict::Pass;
    }
    if !fence::may_speak(&flow.source)
        || forward::ends_here(packet, flow)
        || !translate(ctx, packet, &quoted, flow, false)
    {
        return Verdict::Drop;
    }
    out::onward(flow, packet.v4)
}

/// An error of this host's own stack about a packet to a backend on it ("port unreachable"): the client has sent that to the
/// virtual IP, so it hears of it from there, and only while this node may speak for that. `None`: it is about no such packet.
#[inline(never)]
pub fn egress(ctx: &TcContext, packet: &Packet) -> Option<Verdict> {
    let mut quoted = Quoted::EMPTY;
    if !self::quoted(ctx, packet, &mut quoted) {
        return None;
    }
    let answer = &quoted.answer;
    let mut copy = MaybeUninit::uninit();
    let flow = maps::flow(answer)?.flow(answer, &mut copy)?;
    if !flow.has(flow_flags::REVERSE | flow_flags::LOCAL) {
        return None;
    }
    let leaves = fence::may_speak(&flow.source) && translate(ctx, packet, &quoted, flow, false);
    Some(if leaves { Verdict::Pass } else { Verdict::Drop })
}

/// The way back: what the flow makes of packets comes in answer to what is quoted.
#[inline(always)]
fn translate(
    ctx: &TcContext,
    packet: &Packet,
    quoted: &Quoted,
    flow: &Flow,
    keeps_source: bool,
) -> bool {
    rewrite_quoted(ctx, packet.v4, quoted, flow)
        .and_then(|(packet, quotation)| rewrite_checksum(ctx, quoted, packet, quotation))
        .is_some_and(|changed| rewrite_error(ctx, packet, flow, changed, keeps_source))
}

#[inline(never)]
fn quoted(ctx: &TcContext, packet: &Packet, quoted: &mut Quoted) -> bool {
    let at = packet.transport + HEADER;
    quoted.at = at;
    let answer = &mut quoted.answer;
    if packet.v4 {
        let mut ip = MaybeUninit::<[u16; IPV4 / 2]>::uninit();
        let Some(ip) = parse::read(ctx, at, &mut ip) else {
            return false;
        };
        let [first, _] = ip[0].to_ne_bytes();
        quoted.transport = at + usize::from(first & 0x0f) * 4;
        quoted.checksum = ip[5];
        answer.protocol = ip[4].to_ne_bytes()[1];
        answer.destination = *parse::key(&parse::mapped([ip[6], ip[7]]));
        answer.source = *parse::key(&parse::mapped([ip[8], ip[9]]));
    } else {
        quoted.transport = at + IPV6;
        let mut next = [0];
        if !parse::read_into(ctx, at + 6, &mut next)
            || !parse::read_into(ctx, at + 8, &mut answer.destination)
            || !parse::read_into(ctx, at + 24, &mut answer.source)
        {
            return false;
        }
        answer.protocol = next[0];
    }
    matches!(answer.protocol, protocol::TCP | protocol::UDP)
        && parse::read_into(ctx, quoted.transport, &mut answer.destination_port)
        && parse::read_into(ctx, quoted.transport + 2, &mut answer.source_port)
}

/// Rewrites the error itself, whose quotation has `changed`.
#[inline(never)]
fn rewrite_error(
    ctx: &TcContext,
    packet: &Packet,
    flow: &Flow,
    changed: u32,
    keeps_source: bool,
) -> bool {
    let local = flow.has(flow_flags::LOCAL);
    let hops = if local { packet.hops } else { packet.hops - 1 };
    let old = words(&packet.key);
    let mut new = *flow_words(flow);
    if keeps_source {
        new[..4].copy_from_slice(&old[..4]);
    }
    let at = packet.transport + CHECKSUM;
    if ctx.l4_csum_replace(at, 0, changed.into(), 0).is_err() {
        return false;
    }
    if packet.v4 {
        let moved = translate::moved_v4(old, &new);
        return translate::network_v4(ctx, hops, moved, [new[3], new[7]], None);
    }
    let changed = Sum::default().less(old).plus(&new).fold32();
    translate::network_v6(ctx, hops, &new)
        && ctx
            .l4_csum_replace(at, 0, changed.into(), BPF_F_PSEUDO_HDR.into())
            .is_ok()
}

/// Rewrites addresses and ports of the quotation. What has changed by that: first as the checksum
/// of the quoted TCP or UDP packet sees it, then as the sum over the quotation does.
#[inline(never)]
fn rewrite_quoted(ctx: &TcContext, v4: bool, quoted: &Quoted, flow: &Flow) -> Option<(u32, u32)> {
    let (old, new) = (words(&quoted.answer), flow_words(flow));
    let ports = (
        ports(&quoted.answer),
        word(flow.destination_port, flow.source_port),
    );
    // Sums do not care which of two was the source.
    let addresses = Sum::default().less(old).plus(new);
    let moved = Sum::default().less(&[ports.0]).plus(&[ports.1]);
    if v4 {
        let checksum = !addresses.plus(&[u32::from(!quoted.checksum)]).fold16();
        ctx.store(quoted.at + 10, &checksum, 0).ok()?;
        ctx.store(quoted.at + 12, &[new[7], new[3]], 0).ok()?;
    } else {
        ctx.store(quoted.at + 8, &flow.destination, 0).ok()?;
        ctx.store(quoted.at + 24, &flow.source, 0).ok()?;
    }
    ctx.store(quoted.transport, &ports.1, 0).ok()?;
    let both = addresses.plus(&[moved.fold32()]).fold32();
    // The header of IPv4 makes up for its addresses by its own checksum.
    Some((both, if v4 { moved.fold32() } else { both }))
}

/// Rewrites the checksum of the quoted packet; returns by what the sum over the quotation has
/// changed in all. That of TCP is often beyond what is quoted, and UDP over IPv4 need not have one.
#[inline(never)]
fn rewrite_checksum(ctx: &TcContext, quoted: &Quoted, packet: u32, quotation: u32) -> Option<u32> {
    let tcp = quoted.answer.protocol == protocol::TCP;
    let at = quoted.transport + if tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let mut old = [0u16];
    if !parse::read_into(ctx, at, &mut old) || (!tcp && old[0] == 0) {
        return Some(quotation);
    }
    let new = !Sum::of(!old[0]).plus(&[packet]).fold16();
    ctx.store(at, &new, 0).ok()?;
    let total = Sum::of(new).less(&[u32::from(old[0])]);
    Some(total.plus(&[quotation]).fold32())
}
