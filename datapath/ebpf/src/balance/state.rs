//! What TCP segments tell of their connection. Only what the collector must know: whether a
//! connection was ever established, and whether it is over.

use vipd_datapath_common::balance::{Flow, Progress, flow_flags, protocol};

use super::maps;
use super::packet::{Packet, tcp};

/// Whether a packet of a known flow begins a new one with the same tuple: a client asks for a
/// connection where the last one is over, or again where none came about, perhaps because its
/// backend is dead. It is for today's backends then.
#[inline(always)]
pub fn begins_anew(packet: &Packet, flow: &Flow) -> bool {
    packet.opens() && !flow.has(flow_flags::REVERSE) && can_begin_anew(&flow.progress)
}

#[inline(always)]
const fn can_begin_anew(progress: &Progress) -> bool {
    progress.established == 0 || progress.reset != 0 || progress.fin != 0 || progress.peer_fin != 0
}

/// What a first packet shows.
#[inline(always)]
pub fn shown(packet: &Packet) -> Progress {
    let has = |bit| u8::from(packet.tcp & bit != 0);
    Progress {
        established: u8::from(packet.key.protocol == protocol::TCP) & (1 - has(tcp::SYN)),
        fin: has(tcp::FIN),
        peer_fin: 0,
        reset: has(tcp::RST),
    }
}

/// Remembers what a packet of a known flow shows; the other half hears of an end.
#[inline(always)]
pub fn learn(packet: &Packet, flow: &'static Flow) {
    if packet.tcp & (tcp::SYN | tcp::FIN | tcp::RST) == 0 {
        if packet.tcp != 0 && flow.progress.established == 0 {
            maps::set(&flow.progress.established);
        }
    } else if packet.tcp & (tcp::FIN | tcp::RST) != 0 {
        ends(packet, flow);
    }
}

#[inline(never)]
fn ends(packet: &Packet, flow: &'static Flow) {
    let (fin, reset) = (packet.tcp & tcp::FIN != 0, packet.tcp & tcp::RST != 0);
    maps::set(&flow.progress.established);
    if fin {
        maps::set(&flow.progress.fin);
    }
    if reset {
        maps::set(&flow.progress.reset);
    }
    if flow.has(flow_flags::DSR) {
        return;
    }
    let key = flow.other(packet.key.protocol);
    let Some(other) = maps::flow(&key) else {
        return;
    };
    if fin {
        maps::set(&other.progress.peer_fin);
    }
    if reset {
        maps::set(&other.progress.reset);
    }
}
