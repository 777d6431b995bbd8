//! Load balancing: what becomes of a packet to an address that is open here and has services.
//!
//! ```text
//!   packet ── known flow? ──yes──▶ forward: translate, count, send on
//!                 └─no── service? ──yes──▶ open: choose a backend, record both halves, and forward
//!                            └─no──▶ the host's own stack, but see `stray`
//! ```
//!
//! One file a subject: [`packet`] what is read of one, [`open`]
//! new flows, [`choose`] their backend, [`record`] how they are remembered, [`forward`] packets of
//! known ones, [`guard`] the bound on new ones, [`state`] what TCP tells of them, [`translate`] the rewriting, [`out`] where it
//! goes, [`icmp`] errors about flows, [`pieces`] fragments, [`stray`] answers that nobody here knows
//! of, [`count`] the counters.

mod choose;
mod count;
mod forward;
mod guard;
mod icmp;
mod maps;
mod open;
mod out;
mod packet;
mod pieces;
mod record;
mod state;
mod stray;
mod translate;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::AddressKey;
use vipd_datapath_common::balance::{Reason, balance_flags, flow_flags};

use crate::{fence, verdict::Verdict};
use packet::{Content, Packet};

/// A packet to an address that has services and is open here. In the frame of the program itself, since
/// the way to record a flow needs most of the 512 bytes of stack. `at`: what the clock has just said,
/// 0 if nobody asked it.
#[inline(always)]
pub fn ingress(ctx: &TcContext, at: u64) -> Verdict {
    let now = if at == 0 { fence::now() } else { at };
    let mut packet = Packet::EMPTY;
    match packet::read(ctx, &mut packet) {
        Content::Flow => {}
        Content::Error => return icmp::ingress(ctx, &packet),
        Content::Orphan => {
            count::dropped(0, 0, Reason::Fragment);
            return Verdict::Pass;
        }
        Content::Other => return Verdict::Pass,
        Content::Malformed => {
            count::dropped(0, 0, Reason::Malformed);
            return Verdict::Drop;
        }
    }
    let mut flow = maps::flow(&packet.key);
    if flow.is_none_or(|flow| state::begins_anew(&packet, flow)) {
        if let Some(verdict) = open::new(ctx, &packet, now) {
            return verdict;
        }
        flow = maps::flow(&packet.key);
    }
    match flow {
        Some(flow) => forward::known(ctx, &packet, flow, now),
        // Removed by the collector in this instant: clients send again.
        None => Verdict::Drop,
    }
}

/// A packet that was made on this host, perhaps an answer of a backend on it. `None`: it is not.
#[inline(never)]
pub fn egress(ctx: &TcContext) -> Option<Verdict> {
    if maps::balance()?.flags & balance_flags::LOCAL_BACKENDS == 0 {
        return None;
    }
    let mut packet = Packet::EMPTY;
    if !matches!(packet::read(ctx, &mut packet), Content::Flow) {
        return None;
    }
    let flow = maps::flow(&packet.key)?;
    if !flow.has(flow_flags::REVERSE | flow_flags::LOCAL) {
        return None;
    }
    // It speaks for the address, so it is subject to the fence.
    let vip: AddressKey = flow.source;
    if !fence::may_speak(&vip) {
        return Some(Verdict::Drop);
    }
    Some(forward::known(ctx, &packet, flow, fence::now()))
}
