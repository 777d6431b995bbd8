//! TCP, UDP and ICMP packets as frames, made and checked without the code under test.

use std::net::{IpAddr, SocketAddr};

use super::packet::ethernet;
use super::{MAC_CLIENT, MAC_HOST};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// With these flags.
    Tcp(u8),
    Udp,
    /// UDP over IPv4 whose sender made no checksum.
    Unsummed,
}

impl Transport {
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp(_) => 6,
            Self::Udp | Self::Unsummed => 17,
        }
    }
}

/// A piece of a packet: identification, offset in units of 8 bytes, whether more follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub id: u16,
    pub offset: u16,
    pub more: bool,
}

/// One packet; both addresses are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub transport: Transport,
    pub hops: u8,
    /// Of IPv4: a multiple of four bytes.
    pub options: Vec<u8>,
    /// Options of TCP: a multiple of four bytes.
    pub tcp_options: Vec<u8>,
    pub payload: Vec<u8>,
    pub piece: Option<Piece>,
}

impl Segment {
    pub fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            source,
            destination,
            transport,
            hops: 64,
            options: Vec::new(),
            tcp_options: Vec::new(),
            payload: b"from whom it comes to whom it goes".to_vec(),
            piece: None,
        }
    }

    /// The same between others, after `hops` hops.
    pub fn became(&self, source: SocketAddr, destination: SocketAddr, hops: u8) -> Self {
        Self {
            source,
            destination,
            hops: self.hops - hops,
            ..self.clone()
        }
    }

    /// The whole frame, with all checksums.
    pub fn frame(&self) -> Vec<u8> {
        self.framed(&self.packet())
    }

    fn framed(&self, packet: &[u8]) -> Vec<u8> {
        let kind = if self.source.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        ethernet(MAC_HOST, MAC_CLIENT, kind, packet)
    }

    /// The IP packet. A later piece begins with its payload.
    pub fn packet(&self) -> Vec<u8> {
        let body = match self.piece {
            Some(Piece { offset: 1.., .. }) => self.payload.clone(),
            Some(_) | None => self.body(),
        };
        self.around(&body)
    }

    /// The frames of its pieces, each with so many bytes of it, which are a multiple of eight.
    pub fn cut(&self, id: u16, bytes: usize) -> Vec<Vec<u8>> {
        let body = self.body();
        let chunks = body.chunks(bytes).enumerate();
        let frames = chunks.map(|(number, chunk)| {
            let piece = Piece {
                id,
                offset: (number * bytes / 8) as u16,
                more: (number + 1) * bytes < body.len(),
            };
            let piece = Self {
                piece: Some(piece),
                ..self.clone()
            };
            piece.framed(&piece.around(chunk))
        });
        frames.collect()
    }

    /// The IP header, as `piece` has it, in front of this.
    fn around(&self, body: &[u8]) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = (20 + self.options.len() + body.len()) as u16;
                let piece = self.piece.map_or((0, 0), |piece| {
                    (piece.id, piece.offset | u16::from(piece.more) << 13)
                });
                let mut head = vec![0x45 + (self.options.len() / 4) as u8, 0];
                head.extend(length.to_be_bytes());
                head.extend(piece.0.to_be_bytes());
                head.extend(piece.1.to_be_bytes());
                head.extend([self.hops, self.transport.number(), 0, 0]);
                head.extend(from.octets());
                head.extend(to.octets());
                head.extend(&self.options);
                let sum = !sum(&head);
                head[10..12].copy_from_slice(&sum.to_be_bytes());
                [&head[..], body].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let extension = self.piece.map_or(Vec::new(), |piece| {
                    let field = piece.offset << 3 | u16::from(piece.more);
                    let mut extension = vec![self.transport.number(), 0];
                    extension.extend(field.to_be_bytes());
                    extension.extend(u32::from(piece.id).to_be_bytes());
                    extension
                });
                let next = if extension.is_empty() {
                    self.transport.number()
                } else {
                    44
                };
                let mut head = vec![0x60, 0, 0, 0];
                head.extend(((extension.len() + body.len()) as u16).to_be_bytes());
                head.extend([next, self.hops]);
                head.extend(from.octets());
                head.extend(to.octets());
                [&head[..], &extension, body].concat()
            }
            mixed => panic!("of two families: {mixed:?}"),
        }
    }

    /// The TCP or UDP header and the payload.
    fn body(&self) -> Vec<u8> {
        let (source, destination) = (self.source.port(), self.destination.port());
        let mut body = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        let at = match self.transport {
            Transport::Tcp(flags) => {
                let words = 5 + (self.tcp_options.len() / 4) as u8;
                body.extend([
                    1,
                    2,
                    3,
                    4,
                    5,
                    6,
                    7,
                    8,
                    words << 4,
                    flags,
                    0x10,
                    0,
                    0,
                    0,
                    0,
                    0,
                ]);
                body.extend(&self.tcp_options);
                16
            }
            Transport::Udp | Transport::Unsummed => {
                body.extend((8 + self.payload.len() as u16).to_be_bytes());
                body.extend([0, 0]);
                6
            }
        };
        body.extend(&self.payload);
        if self.transport != Transport::Unsummed {
            let number = self.transport.number();
            let sum = !pseudo_sum(self.source.ip(), self.destination.ip(), number, &body);
            let udp_zero = sum == 0 && self.transport == Transport::Udp;
            let sum = if udp_zero { 0xffff } else { sum };
            body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        body
    }
}

/// A frame with the ICMP error "too big" about a packet, of which it quotes `length` bytes.
pub fn too_big(from: IpAddr, to: IpAddr, hops: u8, quoted: &Segment, length: usize) -> Vec<u8> {
    let packet = quoted.packet();
    let quotation = &packet[..length.min(packet.len())];
    let v4 = from.is_ipv4();
    let head: [u8; 8] = if v4 {
        [3, 4, 0, 0, 0, 0, 5, 120]
    } else {
        [2, 0, 0, 0, 0, 0, 5, 120]
    };
    let mut message = [&head[..], quotation].concat();
    let sum = if v4 {
        !sum(&message)
    } else {
        !pseudo_sum(from, to, 58, &message)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut head = vec![0x45, 0];
            head.extend((20 + message.len() as u16).to_be_bytes());
            head.extend([0, 0, 0, 0, hops, 1, 0, 0]);
            head.extend(from.octets());
            head.extend(to.octets());
            let sum = !self::sum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            head
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut head = vec![0x60, 0, 0, 0];
            head.extend((message.len() as u16).to_be_bytes());
            head.extend([58, hops]);
            head.extend(from.octets());
            head.extend(to.octets());
            head
        }
        mixed => panic!("of two families: {mixed:?}"),
    };
    packet.extend(message);
    let kind = if v4 { 0x0800 } else { 0x86dd };
    ethernet(MAC_HOST, MAC_CLIENT, kind, &packet)
}

/// A frame with the ICMP error of this type and code, and with this second word, that a host makes of a packet which it
/// cannot send on: from whom that was for, to who sent it. It quotes 128 bytes at most, and whole words.
pub fn complaint(about: &Segment, kind: [u8; 2], word: u32) -> Vec<u8> {
    complaint_from(about.destination.ip(), about, kind, word)
}

/// The same from another address.
pub fn complaint_from(from: IpAddr, about: &Segment, kind: [u8; 2], word: u32) -> Vec<u8> {
    let to = about.source.ip();
    let v4 = from.is_ipv4();
    let packet = about.packet();
    let mut message = [&kind[..], &[0, 0], &word.to_be_bytes()].concat();
    message.extend(&packet[..(packet.len() / 4 * 4).min(128)]);
    let check = if v4 {
        !sum(&message)
    } else {
        !pseudo_sum(from, to, 58, &message)
    };
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let mut head;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            head = vec![0x45, 0xc0];
            head.extend((20 + message.len() as u16).to_be_bytes());
            head.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
            head.extend(from.octets());
            head.extend(to.octets());
            let sum = !sum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            head = vec![0x60, 0, 0, 0];
            head.extend((message.len() as u16).to_be_bytes());
            head.extend([58, 64]);
            head.extend(from.octets());
            head.extend(to.octets());
        }
        mixed => panic!("of two families: {mixed:?}"),
    }
    head.extend(message);
    let kind = if v4 { 0x0800 } else { 0x86dd };
    ethernet(MAC_CLIENT, MAC_HOST, kind, &head)
}

/// The sum over a message and its pseudo-header.
pub fn pseudo_sum(from: IpAddr, to: IpAddr, next: u8, message: &[u8]) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [
        octets(from),
        octets(to),
        length.to_vec(),
        vec![0, 0, 0, next],
    ]
    .concat();
    sum(&[&pseudo, message].concat())
}

/// Sum of 16-bit words in ones' complement, word by word.
pub fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, word| {
        let word = u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
