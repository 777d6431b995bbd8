//! A packet of a known flow: the path that nearly all packets take.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Complaint, Direction, Flow, Reason, flow_flags};
use vipd_datapath_common::frame::ETHERNET;

use super::packet::{self, Packet};
use super::{count, encap, listen, out, place::Place, state, tell, translate};
use crate::verdict::Verdict;

/// Frames up to this length fit any link that anybody runs IP on, so nobody is asked.
const CARRIED_ANYWHERE: u32 = ETHERNET as u32 + 576;

/// Remembers the packet, rewrites it as the flow says, and sends it on.
#[inline(never)]
pub fn known(ctx: &TcContext, packet: &Packet, place: Place, now: u64) -> Verdict {
    let mut copy = MaybeUninit::uninit();
    let Some(flow) = place.flow(&packet.key, &mut copy) else {
        // Removed in this instant: clients send again.
        return Verdict::Drop;
    };
    let (packets, bytes) = size(ctx);
    place.saw(now, packets, bytes);
    state::learn(packet, place, flow);
    let verdict = carry_out(ctx, packet, flow);
    if matches!(
        verdict,
        Verdict::Pass | Verdict::Redirect | Verdict::Wrapped
    ) {
        let direction = if flow.has(flow_flags::REVERSE) {
            Direction::Reverse
        } else {
            Direction::Forward
        };
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
        return encap::dsr(ctx, packet, flow);
    }
    if ends_here(packet, flow) {
        return tell::no_hops(ctx);
    }
    if !local && ctx.len() > CARRIED_ANYWHERE && is_overlong(ctx, packet, flow) {
        return Verdict::Complain;
    }
    let hops = if local { packet.hops } else { packet.hops - 1 };
    if !translate::packet(ctx, packet, flow, hops) {
        return Verdict::Drop;
    }
    if flow.has(flow_flags::LOOPBACK) && !flow.has(flow_flags::REVERSE) && !packet.later {
        listen::hand(ctx, packet, flow);
    }
    out::onward(flow, packet.v4)
}

/// Whether a packet is greater than what the link carries on which it would go on; then its sender is told. The kernel
/// does not look: it would be lost on the link, without a word.
#[inline(never)]
fn is_overlong(ctx: &TcContext, packet: &Packet, flow: &Flow) -> bool {
    let Some(mtu) = out::mtu(ctx, flow.ifindex) else {
        return false; // The interface has just gone, and the packet with it.
    };
    if packet::longest(ctx, packet) <= mtu {
        return false;
    }
    count::dropped(flow.service, flow.backend, Reason::TooBig);
    tell::too_big(ctx, packet, mtu, Complaint::TooBig);
    true
}

/// Packets and bytes: what a network card has put together of several packets counts as these.
#[inline(always)]
fn size(ctx: &TcContext) -> (u64, u64) {
    // SAFETY: the context is valid while the program runs.
    let segments = unsafe { (*ctx.skb.skb).gso_segs };
    let packets = if segments == 0 { 1 } else { segments };
    (packets.into(), ctx.len().into())
}
