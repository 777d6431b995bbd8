//! Load balancing: what becomes of a packet to an address that is open here and has services.
//!
//! ```text
//!   packet ── known flow? ──yes──▶ forward: translate, count, send on
//!                 └─no── service? ──yes──▶ open: choose a backend, record both halves, and forward
//!                            └─no──▶ the host's own stack, but see `stray`
//! ```
//!
//! One file a subject: [`packet`] what is read of one, [`open`]
//! new flows, [`choose`] their backend, [`affinity`] that of clients who were here before, [`record`] how they are remembered, [`forward`] packets of
//! known ones, [`place`] where a flow lies in its map, [`guard`] the bound on new ones, [`state`] what TCP tells of them,
//! [`translate`] the rewriting, [`out`] where it goes, [`listen`] who gets it at a loopback address of the holder, [`encap`] dsr through routers, [`icmp`] errors about flows,
//! [`tell`] those that the holder makes, [`kept`] answers to clients whose addresses backends see, [`sockets`] clients on the holder itself, [`pieces`] fragments, [`stray`] answers that nobody here knows
//! of, [`count`] the counters; [`short`] the short way of packets of open flows, in front of all this.

mod affinity;
mod choose;
mod count;
pub mod encap;
mod forward;
mod guard;
mod icmp;
mod kept;
mod listen;
mod maps;
mod open;
mod out;
mod packet;
mod pieces;
mod place;
mod record;
mod short;
mod sockets;
mod state;
mod stray;
mod tell;
mod translate;

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Reason, balance_flags, flow_flags};

use crate::fence;
use crate::parse::{self, Network};
use crate::verdict::{self, Verdict};
use packet::{Content, Packet};
use place::Place;
pub use short::accelerate;

/// A packet to an address that has services and is open here. In the frame of the program itself, since
/// the way to record a flow needs most of the 512 bytes of stack. `at`: what the clock has just said,
/// 0 if nobody asked it.
#[inline(always)]
pub fn ingress(ctx: &TcContext, network: &Network, at: u64) -> Verdict {
    let mut packet = Packet::EMPTY;
    let verdict = judge(ctx, network, at, &mut packet);
    // From here for the sake of the stack, too.
    if matches!(verdict, Verdict::Complain) {
        return tell::sender(ctx, &packet);
    }
    verdict
}

#[inline(always)]
fn judge(ctx: &TcContext, network: &Network, at: u64, packet: &mut Packet) -> Verdict {
    let now = if at == 0 { fence::now() } else { at };
    match packet::read(ctx, network, packet) {
        Content::Flow => {}
        Content::Error => return icmp::ingress(ctx, packet),
        Content::Orphan if pieces::wait(ctx, now) => return Verdict::Again,
        Content::Orphan if pieces::guess(packet) => {}
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
    let mut place = maps::flow(&packet.key);
    if place.is_none_or(|place| state::begins_anew(packet, place)) {
        if let Some(verdict) = open::new(ctx, packet, now, verdict::ifindex(ctx)) {
            return verdict;
        }
        place = maps::flow(&packet.key);
    }
    match place {
        Some(place) => forward::known(ctx, packet, place, now),
        // Removed by the collector in this instant: clients send again.
        None => Verdict::Drop,
    }
}

/// A packet to an address that vipd does not manage.
#[inline(always)]
pub fn unmanaged(ctx: &TcContext) -> Verdict {
    let flags = maps::balance().map_or(0, |balance| balance.flags);
    if flags & balance_flags::KEPT_CLIENTS != 0 && parse::for_this_host(ctx) {
        return Verdict::Relay;
    }
    Verdict::Pass
}

/// One that may be a backend's answer to a client whose address it sees: that leaves as one of the virtual IP. All others are the
/// business of this host. In the frame of the program itself, as [`ingress`].
#[inline(always)]
pub fn relay(ctx: &TcContext, network: &Network) -> Verdict {
    let mut packet = Packet::EMPTY;
    let verdict = answer(ctx, network, &mut packet);
    if matches!(verdict, Verdict::Complain) {
        kept::name_the_vip(&mut packet);
        return tell::sender(ctx, &packet);
    }
    verdict
}

#[inline(always)]
fn answer(ctx: &TcContext, network: &Network, packet: &mut Packet) -> Verdict {
    match packet::read(ctx, network, packet) {
        Content::Flow => {}
        Content::Error => return icmp::relay(ctx, packet),
        Content::Orphan if pieces::guess(packet) => {}
        Content::Orphan | Content::Other | Content::Malformed => return Verdict::Pass,
    }
    let mut place = maps::flow(&packet.key);
    match place {
        Some(place) => {
            if let Some(verdict) = kept::known(ctx, packet, place.0) {
                return verdict;
            }
        }
        None => {
            let interface = kept::turn(packet);
            if interface == 0 {
                return Verdict::Pass;
            }
            let opened = open::new(ctx, packet, fence::now(), interface);
            if let Some(verdict) = opened {
                return verdict;
            }
            place = kept::turn_back(packet);
        }
    }
    match place {
        Some(place) => forward::known(ctx, packet, place, fence::now()),
        None => Verdict::Drop,
    }
}

/// A packet that was made on this host, perhaps an answer of a backend on it, or what the host's own stack says instead.
/// `None`: it is not.
#[inline(never)]
pub fn egress(ctx: &TcContext) -> Option<Verdict> {
    if maps::balance()?.flags & balance_flags::LOCAL_BACKENDS == 0 {
        return None;
    }
    let mut packet = Packet::EMPTY;
    match packet::read(ctx, &parse::network(ctx), &mut packet) {
        Content::Flow => {}
        Content::Error => return icmp::egress(ctx, &packet),
        Content::Orphan | Content::Other | Content::Malformed => return None,
    }
    let place = maps::flow(&packet.key)?;
    Some(if may_leave(&packet, place)? {
        forward::known(ctx, &packet, place, fence::now())
    } else {
        Verdict::Drop
    })
}

/// Whether an answer may leave as one of the address: it speaks for that, so it is subject to the
/// fence. `None`: it is no answer of a backend on this host. A function of its own, whose stack is free again behind it.
#[inline(never)]
fn may_leave(packet: &Packet, place: Place) -> Option<bool> {
    let mut copy = MaybeUninit::uninit();
    let flow = place.flow(&packet.key, &mut copy)?;
    flow.has(flow_flags::REVERSE | flow_flags::LOCAL)
        .then(|| fence::may_speak(&flow.source))
}
