//! A packet without a flow: it begins one, or goes on with one of another node, whose table chose
//! the same backend.

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{Backend, Direction, Flow, Reason, flow_flags, service_flags};

use super::record::{self, Beginning};
use super::{choose, count, guard, maps, out, packet::Packet, stray};
use crate::verdict::{self, Verdict};

/// Records the flow that a packet begins. `Some`: what becomes of a packet that begins none; else it
/// goes on as a packet of a known flow.
#[inline(never)]
pub fn new(ctx: &TcContext, packet: &Packet, now: u64) -> Option<Verdict> {
    let Some(service) = choose::service(&packet.key) else {
        return Some(stray::verdict(ctx, packet));
    };
    if !choose::may_use(service, &packet.key) {
        count::dropped(service.id, 0, Reason::Forbidden);
        return Some(Verdict::Drop);
    }
    let Some(backend) = choose::backend(service, &packet.key) else {
        count::dropped(service.id, 0, Reason::NoBackend);
        return Some(Verdict::Drop);
    };
    let dsr = service.flags & service_flags::DSR != 0;
    if !dsr && !backend.is_local() && packet.hops <= 1 {
        count::dropped(service.id, backend.id, Reason::Hops);
        return Some(Verdict::Drop);
    }
    let recorded = if !guard::admits(now) {
        Err(Reason::Flood)
    } else {
        replace(packet, backend, dsr);
        let begins = Beginning {
            service,
            backend,
            arrival: verdict::ifindex(ctx),
            now,
        };
        record::flow(packet, &begins)
    };
    match recorded {
        Ok(()) => {
            count::began(service.id, backend.id);
            None
        }
        // The table alone sends the next packet the same way.
        Err(_) if dsr => {
            count::passed(
                service.id,
                backend.id,
                Direction::Forward,
                1,
                ctx.len().into(),
            );
            Some(if backend.is_local() {
                Verdict::Pass
            } else {
                out::to_neighbour(backend.ifindex, &backend.address, packet.v4)
            })
        }
        Err(reason) => {
            count::dropped(service.id, backend.id, reason);
            Some(Verdict::Drop)
        }
    }
}

/// Where the tuple had a flow to another backend, its answers have come to an end.
#[inline(always)]
fn replace(packet: &Packet, backend: &Backend, dsr: bool) {
    let Some(old) = maps::flow(&packet.key) else {
        return;
    };
    if !old.has(flow_flags::DSR) && (dsr || old.destination != backend.address) {
        forget(old, packet.key.protocol);
    }
}

#[inline(never)]
fn forget(old: &Flow, protocol: u8) {
    maps::remove_flow(&old.other(protocol));
}
