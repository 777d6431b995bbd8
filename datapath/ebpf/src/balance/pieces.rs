//! Fragments: only the first piece of a packet has ports, so they are kept for the others.
//!
//! A later piece may come *before* the first: senders that begin with the last one, and cards whose queues the pieces
//! take side by side. It goes to the end of this CPU's queue again and again, for some 100 microseconds ([`wait`]).
//! If the first is not there by then, the piece goes where the last first piece between the two hosts went ([`guess`]):
//! there is mostly one exchange of large packets between two hosts at a time.

use aya_ebpf::programs::TcContext;
use vipd_datapath_common::balance::{FragmentKey, Ports};

use super::{guard, maps, packet::Packet};
use crate::verdict;

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
    maps::set_ports(&latest(packet), &ports);
}

/// Gives a later piece the ports of the first; false: that has not come by.
#[inline(never)]
pub fn recall(packet: &mut Packet, piece: &Piece) -> bool {
    fill(packet, &key(packet, piece))
}

/// Whether a later piece without a first one shall come round again; that counts as a round then.
#[inline(always)]
pub fn wait(ctx: &TcContext, now: u64) -> bool {
    let rounds = verdict::rounds(ctx);
    let again = rounds < ROUNDS && guard::may_wait(now);
    if again {
        verdict::set_rounds(ctx, rounds + 1);
    }
    again
}

/// Gives a later piece the ports of the last first piece between its hosts; false: none is known.
#[inline(never)]
pub fn guess(packet: &mut Packet) -> bool {
    fill(packet, &latest(packet))
}

/// Remembers a connection that a backend has of its own, beside any service. In the same map, since it is the same kind of
/// thing: of use for a while, and no loss if it is forgotten.
#[inline(never)]
pub fn note_direct(packet: &Packet) {
    let none = Ports {
        source: [0; 2],
        destination: [0; 2],
    };
    maps::set_ports(&direct(packet), &none);
}

/// Whether a packet is of such a connection.
#[inline(never)]
pub fn is_direct(packet: &Packet) -> bool {
    maps::ports(&direct(packet)).is_some()
}

#[inline(always)]
fn direct(packet: &Packet) -> FragmentKey {
    let ([a, b], [c, d]) = (packet.key.source_port, packet.key.destination_port);
    FragmentKey {
        latest: 2,
        ..key(
            packet,
            &Piece {
                identification: [a, b, c, d],
                first: true,
            },
        )
    }
}

/// So often does a piece come round. The kernel takes 64 packets of this queue before it looks at a card's.
const ROUNDS: u32 = 128;

#[inline(always)]
fn fill(packet: &mut Packet, key: &FragmentKey) -> bool {
    let Some(ports) = maps::ports(key) else {
        return false;
    };
    packet.key.source_port = ports.source;
    packet.key.destination_port = ports.destination;
    true
}

/// The entry of whatever came last between two hosts.
#[inline(always)]
fn latest(packet: &Packet) -> FragmentKey {
    FragmentKey {
        latest: 1,
        ..key(
            packet,
            &Piece {
                identification: [0; 4],
                first: true,
            },
        )
    }
}

#[inline(always)]
fn key(packet: &Packet, piece: &Piece) -> FragmentKey {
    FragmentKey {
        source: packet.key.source,
        destination: packet.key.destination,
        identification: piece.identification,
        protocol: packet.key.protocol,
        latest: 0,
        reserved: [0; 2],
    }
}
