//! Answers of backends that see clients' addresses, since this host is their router: they come by on their way to the
//! client, and leave as those of the virtual IP.
//!
//! ```text
//!   to no managed address ── known flow? ──yes──▶ forward
//!                               └─no── a backend's end, and the table leads its client there? ──yes──▶ open, and forward
//!                                                 └─no──▶ the host's own stack: it is none of our business
//! ```
//!
//! An answer of a flow that is not known is one of a former holder's, whose client has been silent since. Which it is, is
//! computed: [`vipd_datapath_common::balance::Answer`] has the service that the backend's end belongs to, if it is one, and by its
//! table the client's packets go to this backend, or they do not. What the backend answers to others, who asked it directly, is
//! taken for such an answer by a chance of one to the number of backends; so connections that are seen to begin are left alone.

use core::mem::MaybeUninit;

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{
    Answer, Backend, FlowKey, Half, Reason, ServiceKey, flow_flags, protocol,
};

use super::packet::{Packet, tcp};
use super::{choose, count, maps, pieces, place::Place, record};
use crate::{fence, verdict::Verdict};

/// What becomes of a packet whose flow is known, instead of going on as one of it. `None`: it does.
#[inline(never)]
pub fn known(ctx: &TcContext, packet: &Packet, half: *mut Half) -> Option<Verdict> {
    const ANSWERS: u32 = flow_flags::REVERSE | flow_flags::KEEP;
    let place = Place(half);
    if place.flags() & ANSWERS != ANSWERS {
        return Some(Verdict::Pass);
    }
    let vip = place.source();
    if !place.is_of(&packet.key) {
        // Removed in this instant: backends send again.
        return Some(Verdict::Drop);
    }
    fence::relays(ctx, &vip)
}

/// Turns an answer of a flow that is not known into what its client would send, for that to begin one; the interface of the
/// virtual IP. 0: it is none, as far as anybody can tell.
#[inline(never)]
pub fn turn(packet: &mut Packet) -> u32 {
    let Some(answer) = end(&packet.key) else {
        return 0;
    };
    if packet.tcp & tcp::SYN != 0 {
        pieces::note_direct(packet);
        return 0;
    }
    if packet.hops <= 1 || pieces::is_direct(packet) {
        return 0;
    }
    if answer.backend == 0 {
        count::dropped(0, 0, Reason::Stray);
        return 0;
    }
    let Some(interface) = fence::served_on(&answer.vip) else {
        return 0;
    };
    let key = &packet.key;
    let asked = FlowKey {
        source: key.destination,
        destination: answer.vip,
        source_port: key.destination_port,
        destination_port: if answer.port == [0; 2] {
            key.source_port
        } else {
            answer.port
        },
        protocol: key.protocol,
        reserved: [0; 3],
    };
    if !leads_to(&asked, answer.backend) {
        count::dropped(0, 0, Reason::Stray);
        return 0;
    }
    packet.key = asked;
    packet.came = packet.tcp;
    packet.tcp &= tcp::ACK;
    interface
}

/// Turns what has begun a flow into the answer that it was, and returns where that's half lies.
#[inline(never)]
pub fn turn_back(packet: &mut Packet) -> Option<Place> {
    let mut copy = MaybeUninit::uninit();
    let flow = maps::flow(&packet.key)?.flow(&packet.key, &mut copy)?;
    packet.key = flow.other(packet.key.protocol);
    packet.tcp = packet.came;
    maps::flow(&packet.key)
}

/// Has the virtual IP stand for the client in an answer that goes no further: what its sender is told is from there.
#[inline(never)]
pub fn name_the_vip(packet: &mut Packet) {
    let Some(place) = maps::flow(&packet.key) else {
        return;
    };
    let vip = place.source();
    if place.is_of(&packet.key) {
        packet.key.destination = vip;
    }
}

/// The service that the sender of a packet answers for: that of its port, else that of all ports.
#[inline(always)]
fn end(key: &FlowKey) -> Option<Answer> {
    let mut end = ServiceKey {
        address: key.source,
        port: key.source_port,
        protocol: key.protocol,
        reserved: 0,
    };
    maps::answer(&end).or_else(|| {
        end.port = [0; 2];
        maps::answer(&end)
    })
}

/// Whether a client's packet would go to this backend, and from the client's own address.
#[inline(never)]
fn leads_to(asked: &FlowKey, number: u32) -> bool {
    let Some(service) = choose::service(asked) else {
        return false;
    };
    let open = asked.protocol == protocol::TCP;
    let Some(backend) = choose::backend(service, asked, open, fence::now()) else {
        return false;
    };
    backend.id == number
        // This host's own, as it asks whether the backend is well.
        && backend.source != asked.source
        && choose::keeps(service, backend, asked)
        && choose::may_use(service, asked)
        && goes_on(asked, backend)
}

/// Whether the client has no other connection with the same ports by now.
#[inline(never)]
fn goes_on(asked: &FlowKey, backend: &Backend) -> bool {
    let Some(place) = maps::flow(asked) else {
        return true;
    };
    let mut copy = MaybeUninit::uninit();
    let flow = place.flow(asked, &mut copy);
    flow.is_some_and(|flow| {
        flow.has(flow_flags::KEEP)
            && flow.destination == backend.address
            && flow.destination_port == record::target(asked, backend)
    })
}
