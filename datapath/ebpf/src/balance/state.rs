//! What TCP segments tell of their connection. Only what the collector must know: whether a
//! connection was ever established, and whether it is over.

use vipd_datapath_common::balance::{Flow, Progress, flow_flags, protocol};

use super::maps;
use super::packet::{Packet, tcp};
use super::place::{Mark, Place};

/// Whether a packet of a known flow begins a new one with the same tuple: a client asks for a
/// connection where the last one is over, or again where none came about, perhaps because its
/// backend is dead. It is for today's backends then.
#[inline(always)]
pub fn begins_anew(packet: &Packet, place: Place) -> bool {
    packet.opens() && place.flags() & flow_flags::REVERSE == 0 && can_begin_anew(&place.progress())
}

#[inline(always)]
const fn can_begin_anew(progress: &Progress) -> bool {
    progress.established == 0 || progress.reset != 0 || progress.fin != 0 || progress.peer_fin != 0
}

/// What a first packet shows; see [`learn`] for dsr.
#[inline(always)]
pub fn shown(packet: &Packet, dsr: bool) -> Progress {
    let has = |bit| u8::from(packet.tcp & bit != 0);
    let tcp = packet.key.protocol == protocol::TCP;
    Progress {
        established: u8::from(tcp && !dsr) & (1 - has(tcp::SYN)),
        fin: has(tcp::FIN),
        peer_fin: 0,
        reset: has(tcp::RST),
    }
}

/// Remembers what a packet of a known flow shows; the other half hears of an end.
#[inline(always)]
pub fn learn(packet: &Packet, place: Place, flow: &Flow) {
    if packet.tcp & (tcp::SYN | tcp::FIN | tcp::RST) == 0 {
        // With dsr no answer ever proves that a connection is one: a lone packet does not make it.
        let proven = flow.packets > 0 || !flow.has(flow_flags::DSR);
        if packet.tcp != 0 && flow.progress.established == 0 && proven {
            place.mark(Mark::Established);
        }
    } else if packet.tcp & (tcp::FIN | tcp::RST) != 0 {
        ends(packet, place, flow);
    }
}

#[inline(never)]
fn ends(packet: &Packet, place: Place, flow: &Flow) {
    place.mark(Mark::Established);
    let (fin, reset) = (packet.tcp & tcp::FIN != 0, packet.tcp & tcp::RST != 0);
    if fin {
        place.mark(Mark::Fin);
    }
    if reset {
        place.mark(Mark::Reset);
    }
    if flow.has(flow_flags::DSR) {
        return;
    }
    let key = flow.other(packet.key.protocol);
    let Some(place) = maps::flow(&key).filter(|place| place.is_of(&key)) else {
        return;
    };
    if fin {
        place.mark(Mark::PeerFin);
    }
    if reset {
        place.mark(Mark::Reset);
    }
}
