//! A packet of a known flow: the path that nearly all packets take.

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Direction, Flow, Reason, flow_flags};

use super::{count, maps, out, packet::Packet, state, translate};
use crate::verdict::Verdict;

/// Remembers the packet, rewrites it as the flow says, and sends it on.
#[inline(never)]
pub fn known(ctx: &TcContext, packet: &Packet, flow: &'static Flow, now: u64) -> Verdict {
    let (packets, bytes) = size(ctx);
    maps::saw(flow, now, packets, bytes);
    state::learn(packet, flow);
    let direction = if flow.has(flow_flags::REVERSE) {
        Direction::Reverse
    } else {
        Direction::Forward
    };
    let verdict = carry_out(ctx, packet, flow);
    if !matches!(verdict, Verdict::Drop) {
        count::passed(flow.service, flow.backend, direction, packets, bytes);
    }
    verdict
}

/// Whether a packet that would go on to another host has no hop left, and is counted for it.
#[inline(always)]
pub fn ends_here(packet: &Packet, flow: &Flow) -> bool {
    let ends = !flow.has(flow_flags::LOCAL) && packet.hops <= 1;
    if ends {
        count::dropped(flow.service, flow.backend, Reason::Hops);
    }
    ends
}

/// What the flow says.
#[inline(always)]
fn carry_out(ctx: &TcContext, packet: &Packet, flow: &Flow) -> Verdict {
    let local = flow.has(flow_flags::LOCAL);
    if flow.has(flow_flags::DSR) {
        return out::onward(flow, packet.v4);
    }
    if ends_here(packet, flow) {
        return Verdict::Drop;
    }
    let hops = if local { packet.hops } else { packet.hops - 1 };
    if !translate::packet(ctx, packet, flow, hops) {
        return Verdict::Drop;
    }
    out::onward(flow, packet.v4)
}

/// Packets and bytes: what a network card has put together of several packets counts as these.
#[inline(always)]
fn size(ctx: &TcContext) -> (u64, u64) {
    // SAFETY: the context is valid while the program runs.
    let segments = unsafe { (*ctx.skb.skb).gso_segs };
    let packets = if segments == 0 { 1 } else { segments };
    (packets.into(), ctx.len().into())
}
