//! A packet without a flow: it begins one, or goes on with one of another node, whose table chose
//! the same backend.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{
    Backend, Direction, Flow, FlowKey, Reason, flow_flags, service_flags,
};

use super::record::{self, Beginning};
use super::{affinity, choose, count, encap, guard, maps, packet::Packet, stray, tell};
use crate::verdict::Verdict;

/// Records the flow that a packet begins. `Some`: what becomes of a packet that begins none; else it
/// goes on as a packet of a known flow. `arrival`: the interface that leads to the client.
#[inline(never)]
pub fn new(ctx: &TcContext, packet: &Packet, now: u64, arrival: u32) -> Option<Verdict> {
    let Some(service) = choose::service(&packet.key) else {
        return Some(stray::verdict(ctx, packet));
    };
    if choose::is_answer(service, packet) {
        return Some(stray::drop());
    }
    if !choose::may_use(service, &packet.key) {
        count::dropped(service.id, 0, Reason::Forbidden);
        return Some(Verdict::Drop);
    }
    let open = packet.continues();
    let Some(backend) = choose::backend(service, &packet.key, open, now) else {
        count::dropped(service.id, 0, Reason::NoBackend);
        return Some(Verdict::Drop);
    };
    let dsr = service.flags & service_flags::DSR != 0;
    if !dsr && !backend.is_local() && packet.hops <= 1 {
        count::dropped(service.id, backend.id, Reason::Hops);
        return Some(tell::no_hops(ctx));
    }
    let recorded = if !guard::admits(now) {
        Err(Reason::Flood)
    } else {
        let begins = Beginning {
            service,
            backend,
            arrival,
            now,
            keeps: choose::keeps(service, backend, &packet.key),
        };
        let again = prepare(packet, &begins);
        record::flow(packet, &begins).map(|()| again)
    };
    match recorded {
        Ok(again) => {
            if !again {
                count::began(service.id, backend.id);
            }
            None
        }
        // The table alone sends the next packet the same way.
        Err(_) if dsr => {
            let bytes = ctx.len().into();
            let verdict = encap::unrecorded(ctx, packet, service, backend);
            if matches!(
                verdict,
                Verdict::Pass | Verdict::Redirect | Verdict::Wrapped
            ) {
                count::passed(service.id, backend.id, Direction::Forward, 1, bytes);
            }
            Some(verdict)
        }
        Err(reason) => {
            count::dropped(service.id, backend.id, reason);
            Some(Verdict::Drop)
        }
    }
}

/// What is to be done before a flow is recorded. Never inlined: its stack is free again when that is done.
///
/// Remembers where its client is, and where the tuple had a flow to another backend, its answers have come to an end.
/// Says whether the packet asks again for a connection that has not come about: that is no further flow.
#[inline(never)]
fn prepare(packet: &Packet, begins: &Beginning) -> bool {
    let (service, backend) = (begins.service, begins.backend);
    if service.flags & service_flags::BY_CLIENT != 0 {
        affinity::note(service, &packet.key.source, backend.id, begins.now);
    }
    let mut copy = MaybeUninit::uninit();
    let Some(old) = maps::flow(&packet.key).and_then(|place| place.flow(&packet.key, &mut copy))
    else {
        return false;
    };
    let dsr = service.flags & service_flags::DSR != 0;
    if !old.has(flow_flags::DSR) && (dsr || !is_to(old, &packet.key, backend)) {
        forget(old, packet.key.protocol);
    }
    old.backend == backend.id && old.service == service.id && old.progress.established == 0
}

/// Whether packets of a flow go to the backend, as a new one's with this key would.
#[inline(always)]
fn is_to(flow: &Flow, key: &FlowKey, backend: &Backend) -> bool {
    flow.destination == *record::place_of(key, backend)
        && flow.destination_port == record::target(key, backend)
}

#[inline(always)]
fn forget(old: &Flow, protocol: u8) {
    maps::remove_flow(&old.other(protocol));
}
