//! What balancing reads of a packet.

use aya_ebpf::{helpers::generated::bpf_skb_pull_data, programs::TcContext};
use vipd_datapath_common::balance::{FlowKey, protocol};
use vipd_datapath_common::{AddressKey, frame::ETHERNET};

use super::icmp;
use super::pieces::{self, Piece};
use crate::parse::{self, Frame, Network};

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
    /// The flags of TCP that it came with, while it stands for another one: see [`super::kept`].
    pub came: u8,
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
        came: 0,
    };

    /// The first words of its key.
    #[inline(always)]
    const fn addresses(&mut self) -> &mut [u64; 4] {
        // SAFETY: the key begins with two addresses of 16 bytes each, is aligned to 8, and any
        // words are addresses.
        unsafe { &mut *(&raw mut self.key).cast() }
    }

    #[inline(always)]
    const fn set_addresses(&mut self, source: [u64; 2], destination: [u64; 2]) {
        *self.addresses() = [source[0], source[1], destination[0], destination[1]];
    }

    /// The last word of its key, at once.
    #[inline(always)]
    fn set_ports(&mut self, [source, destination]: [u16; 2], protocol: u8) {
        const _: () = assert!(core::mem::offset_of!(FlowKey, source_port) == 32);
        const _: () = assert!(core::mem::offset_of!(FlowKey, destination_port) == 34);
        const _: () = assert!(core::mem::offset_of!(FlowKey, protocol) == 36);
        let word = u64::from(source) | u64::from(destination) << 16 | u64::from(protocol) << 32;
        // SAFETY: the last eight bytes of the key, which is aligned to 8; any bytes are a key.
        unsafe { (&raw mut self.key).cast::<u64>().add(4).write(word) };
    }

    /// Whether it asks for a connection.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.tcp & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// Whether it is of a connection that was asked for before. Of datagrams nobody can tell.
    #[inline(always)]
    pub const fn continues(&self) -> bool {
        self.key.protocol == protocol::TCP && !self.opens()
    }
}

/// The longest headers that are looked into: IPv4 with all options, and TCP.
const HEADERS: u32 = (ETHERNET + 60 + 20) as u32;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: u32 = 8;
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
pub fn read(ctx: &TcContext, network: &Network, packet: &mut Packet) -> Content {
    linearise(ctx);
    match network {
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
    packet.set_addresses(parse::mapped([ip[6], ip[7]]), parse::mapped([ip[8], ip[9]]));
    packet.set_ports([0; 2], protocol);
    packet.transport = ETHERNET + usize::from(first & 0x0f) * 4;
    let offset = u16::from_be(ip[3]) & PIECE;
    if offset == 0 {
        return if protocol == ICMP {
            read_error(ctx, packet)
        } else {
            read_transport(ctx, packet, protocol)
        };
    }
    let [a, b] = ip[2].to_ne_bytes();
    let piece = Piece {
        identification: [a, b, 0, 0],
        first: offset & OFFSET == 0,
    };
    read_piece(ctx, packet, &piece)
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
    packet.set_ports([0; 2], next);
    packet.transport = ETHERNET + IPV6;
    if !parse::read_into(ctx, ETHERNET + 8, packet.addresses()) {
        return Content::Malformed;
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
        _ => read_transport(ctx, packet, next),
    }
}

/// A piece of a TCP or UDP packet.
#[inline(always)]
fn read_piece(ctx: &TcContext, packet: &mut Packet, piece: &Piece) -> Content {
    if !matches!(packet.key.protocol, protocol::TCP | protocol::UDP) {
        return Content::Other;
    }
    if piece.first {
        let content = read_transport(ctx, packet, packet.key.protocol);
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

/// A packet of which nothing is unusual: IPv4 without options or IPv6 without more headers, whole, TCP or UDP, untagged;
/// `None` for all others.
#[inline(always)]
pub fn read_plain(frame: &impl Frame, packet: &mut Packet) -> Option<()> {
    const ETHERTYPE: usize = ETHERNET - 2;
    let [kind] = *parse::view::<[u16; 1]>(frame, ETHERTYPE)?;
    let protocol = match u16::from_be(kind) {
        0x0800 => plain_v4(frame, packet)?,
        0x86dd => plain_v6(frame, packet)?,
        _ => return None,
    };
    if !matches!(protocol, protocol::TCP | protocol::UDP) {
        return None;
    }
    matches!(read_transport(frame, packet, protocol), Content::Flow).then_some(())
}

#[inline(always)]
fn plain_v4(frame: &impl Frame, packet: &mut Packet) -> Option<u8> {
    const NO_OPTIONS: u8 = 0x45;
    let ip = parse::view::<[u16; IPV4 / 2]>(frame, ETHERNET)?;
    let [hops, protocol] = ip[4].to_ne_bytes();
    if ip[0].to_ne_bytes()[0] != NO_OPTIONS || u16::from_be(ip[3]) & PIECE != 0 {
        return None;
    }
    packet.v4 = true;
    packet.hops = hops;
    packet.transport = ETHERNET + IPV4;
    packet.set_addresses(parse::mapped([ip[6], ip[7]]), parse::mapped([ip[8], ip[9]]));
    Some(protocol)
}

#[inline(always)]
fn plain_v6(frame: &impl Frame, packet: &mut Packet) -> Option<u8> {
    let ip = parse::view::<[u16; IPV6 / 2]>(frame, ETHERNET)?;
    let [next, hops] = ip[3].to_ne_bytes();
    if ip[0].to_ne_bytes()[0] >> 4 != 6 {
        return None;
    }
    packet.hops = hops;
    packet.transport = ETHERNET + IPV6;
    let word = |i: usize| {
        let [a, b, c, d] = [ip[i], ip[i + 1], ip[i + 2], ip[i + 3]].map(u64::from);
        a | b << 16 | c << 32 | d << 48
    };
    packet.set_addresses([word(4), word(8)], [word(12), word(16)]);
    Some(next)
}

/// Ports and flags.
#[inline(always)]
fn read_transport(ctx: &impl Frame, packet: &mut Packet, protocol: u8) -> Content {
    let ports = if protocol == protocol::TCP {
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
    packet.set_ports(ports, protocol);
    Content::Flow
}

/// The longest packet that this one will be on the wire: where it was put together of several, the
/// kernel takes it apart again.
#[inline(always)]
pub fn longest(ctx: &TcContext, packet: &Packet) -> u32 {
    // SAFETY: the context is valid while the program runs.
    let payload = unsafe { (*ctx.skb.skb).gso_size };
    if payload == 0 {
        return ctx.len() - ETHERNET as u32;
    }
    let header = if packet.key.protocol == protocol::TCP {
        let mut words = [0u8];
        // It was read before, so it is there.
        parse::read_into(ctx, packet.transport + 12, &mut words);
        u32::from(words[0] >> 4) * 4
    } else {
        UDP
    };
    (packet.transport - ETHERNET) as u32 + header + payload
}
