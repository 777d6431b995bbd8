//! Fragments: only the first piece of a packet has ports, so they are kept for the others.

use vipd_datapath_common::balance::{FragmentKey, Ports};

use super::{maps, packet::Packet};

/// Where a piece belongs in its packet.
pub struct Piece {
    /// IPv4: two bytes in front of two zeros.
    pub identification: [u8; 4],
    /// It begins the packet, and has the ports.
    pub first: bool,
}

/// Notes the ports of a first piece.
#[inline(never)]
pub fn note(packet: &Packet, piece: &Piece) {
    let ports = Ports {
        source: packet.key.source_port,
        destination: packet.key.destination_port,
    };
    maps::set_ports(&key(packet, piece), &ports);
}

/// Gives a later piece the ports of the first; false: that has not come by.
#[inline(never)]
pub fn recall(packet: &mut Packet, piece: &Piece) -> bool {
    let Some(ports) = maps::ports(&key(packet, piece)) else {
        return false;
    };
    packet.key.source_port = ports.source;
    packet.key.destination_port = ports.destination;
    true
}

#[inline(always)]
fn key(packet: &Packet, piece: &Piece) -> FragmentKey {
    FragmentKey {
        source: packet.key.source,
        destination: packet.key.destination,
        identification: piece.identification,
        protocol: packet.key.protocol,
        reserved: [0; 3],
    }
}
