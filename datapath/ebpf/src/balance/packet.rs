//! What balancing reads of a packet.

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::generated::bpf_skb_pull_data, programs::TcContext};
use vipd_datapath_common::balance::{FlowKey, protocol};
use vipd_datapath_common::{AddressKey, frame::ETHERNET};

use super::icmp;
use super::pieces::{self, Piece};
use crate::parse::{self, Network};

/// A TCP or UDP packet.
pub struct Packet {
    /// Its tuple.
    pub key: FlowKey,
    /// Offset of its TCP or UDP header in the frame.
    pub transport: usize,
    /// IPv4, else IPv6.
    pub v4: bool,
    /// TTL or hop limit.
    pub hops: u8,
    /// Flags of TCP, see [`tcp`]; 0 for UDP, and for later pieces of a packet.
    pub tcp: u8,
    /// A piece of a packet, but not its first: it has no TCP or UDP header.
    pub later: bool,
}

/// Flags of TCP.
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 1 << 1;
    pub const RST: u8 = 1 << 2;
    pub const ACK: u8 = 1 << 4;
}

/// What a packet turned out to be.
pub enum Content {
    /// TCP or UDP with its ports: part of a flow.
    Flow,
    /// An ICMP error: `transport` is where it begins, and it has no ports.
    Error,
    /// A piece of a packet whose first piece has not come by.
    Orphan,
    /// Something else, for the host's own stack.
    Other,
    /// Shorter than its own headers say.
    Malformed,
}

impl Packet {
    pub const EMPTY: Self = Self {
        key: FlowKey {
            source: AddressKey { octets: [0; 16] },
            destination: AddressKey { octets: [0; 16] },
            source_port: [0; 2],
            destination_port: [0; 2],
            protocol: 0,
            reserved: [0; 3],
        },
        transport: 0,
        v4: false,
        hops: 0,
        tcp: 0,
        later: false,
    };

    /// Whether it asks for a connection.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.tcp & (tcp::SYN | tcp::ACK) == tcp::SYN
    }
}

/// The longest headers that are looked into: IPv4 with all options, and TCP.
const HEADERS: u32 = (ETHERNET + 60 + 20) as u32;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Of the IPv4 field with flags and fragment offset: more fragments, or not the first one.
const PIECE: u16 = 0x3fff;
/// Of these, the offset alone.
const OFFSET: u16 = 0x1fff;
/// The same in the fragment header of IPv6.
const OFFSET_V6: u16 = 0xfff8;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

#[inline(always)]
pub fn read(ctx: &TcContext, packet: &mut Packet) -> Content {
    linearise(ctx);
    match parse::network(ctx) {
        Network::Ipv4 => read_v4(ctx, packet),
        Network::Ipv6 => read_v6(ctx, packet),
        Network::Arp | Network::Other => Content::Other,
    }
}

/// Has the headers in one piece of memory, where most packets have them anyway.
#[inline(always)]
fn linearise(ctx: &TcContext) {
    let wanted = if ctx.len() < HEADERS {
        ctx.len()
    } else {
        HEADERS
    };
    if ctx.data() + wanted as usize > ctx.data_end() {
        // SAFETY: the context is valid; no pointer into the packet is held across the call. Where
        // it fails, what is missing shows as a packet that is too short.
        unsafe { bpf_skb_pull_data(ctx.skb.skb, wanted) };
    }
}

#[inline(always)]
fn read_v4(ctx: &TcContext, packet: &mut Packet) -> Content {
    let Some(ip) = parse::view::<[u16; IPV4 / 2]>(ctx, ETHERNET) else {
        return Content::Malformed;
    };
    let [first, _] = ip[0].to_ne_bytes();
    let [hops, protocol] = ip[4].to_ne_bytes();
    if !matches!(protocol, protocol::TCP | protocol::UDP | ICMP) {
        return Content::Other;
    }
    if first & 0x0f < 5 {
        return Content::Malformed;
    }
    packet.v4 = true;
    packet.hops = hops;
    packet.key.protocol = protocol;
    packet.key.source = mapped([ip[6], ip[7]]);
    packet.key.destination = mapped([ip[8], ip[9]]);
    packet.transport = ETHERNET + usize::from(first & 0x0f) * 4;
    let offset = u16::from_be(ip[3]) & PIECE;
    if offset == 0 {
        return if protocol == ICMP {
            read_error(ctx, packet)
        } else {
            read_transport(ctx, packet)
        };
    }
    let [a, b] = ip[2].to_ne_bytes();
    let piece = Piece {
        identification: [a, b, 0, 0],
        first: offset & OFFSET == 0,
    };
    read_piece(ctx, packet, &piece)
}

/// The key of an IPv4 address, by two stores.
#[inline(always)]
pub const fn mapped([high, low]: [u16; 2]) -> AddressKey {
    let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
    AddressKey::v4([a, b, c, d])
}

#[inline(always)]
fn read_v6(ctx: &TcContext, packet: &mut Packet) -> Content {
    let Some(ip) = parse::view::<[u16; 4]>(ctx, ETHERNET) else {
        return Content::Malformed;
    };
    let [next, hops] = ip[3].to_ne_bytes();
    if !matches!(next, protocol::TCP | protocol::UDP | ICMPV6 | FRAGMENT) {
        return Content::Other;
    }
    packet.hops = hops;
    packet.key.protocol = next;
    packet.transport = ETHERNET + IPV6;
    let mut addresses = MaybeUninit::<[AddressKey; 2]>::uninit();
    match parse::read(ctx, ETHERNET + 8, &mut addresses) {
        Some([source, destination]) => {
            packet.key.source = *source;
            packet.key.destination = *destination;
        }
        None => return Content::Malformed,
    }
    match next {
        ICMPV6 => read_error(ctx, packet),
        FRAGMENT => {
            let Some(header) = parse::view::<[u16; 4]>(ctx, ETHERNET + IPV6) else {
                return Content::Malformed;
            };
            let ([a, b], [c, d]) = (header[2].to_ne_bytes(), header[3].to_ne_bytes());
            packet.key.protocol = header[0].to_ne_bytes()[0];
            packet.transport += 8;
            let piece = Piece {
                identification: [a, b, c, d],
                first: u16::from_be(header[1]) & OFFSET_V6 == 0,
            };
            read_piece(ctx, packet, &piece)
        }
        _ => read_transport(ctx, packet),
    }
}

/// A piece of a TCP or UDP packet.
#[inline(always)]
fn read_piece(ctx: &TcContext, packet: &mut Packet, piece: &Piece) -> Content {
    if !matches!(packet.key.protocol, protocol::TCP | protocol::UDP) {
        return Content::Other;
    }
    if piece.first {
        let content = read_transport(ctx, packet);
        if matches!(content, Content::Flow) {
            pieces::note(packet, piece);
        }
        return content;
    }
    packet.later = true;
    if pieces::recall(packet, piece) {
        Content::Flow
    } else {
        Content::Orphan
    }
}

#[inline(always)]
fn read_error(ctx: &TcContext, packet: &Packet) -> Content {
    match parse::view::<[u16; 4]>(ctx, packet.transport) {
        Some(header) if icmp::is_error(packet.v4, header[0].to_ne_bytes()[0]) => Content::Error,
        Some(_) => Content::Other,
        None => Content::Malformed,
    }
}

/// Ports and flags.
#[inline(always)]
fn read_transport(ctx: &TcContext, packet: &mut Packet) -> Content {
    let ports = if packet.key.protocol == protocol::TCP {
        let Some(header) = parse::view::<[u16; 10]>(ctx, packet.transport) else {
            return Content::Malformed;
        };
        packet.tcp = header[6].to_ne_bytes()[1];
        [header[0], header[1]]
    } else {
        let Some(header) = parse::view::<[u16; 4]>(ctx, packet.transport) else {
            return Content::Malformed;
        };
        [header[0], header[1]]
    };
    packet.key.source_port = ports[0].to_ne_bytes();
    packet.key.destination_port = ports[1].to_ne_bytes();
    Content::Flow
}
