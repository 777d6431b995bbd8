//! What would become of a packet.

use std::net::IpAddr;

use vipd_datapath_common::{AddressKey, balance::FlowKey};

use super::{Dispatch, Frontend, Protocol};

/// A packet of a client, as it comes to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The client's address and port.
    pub client: (IpAddr, u16),
    /// The virtual IP, of the same family, and the port of it.
    pub vip: (IpAddr, u16),
    /// The protocol.
    pub protocol: Protocol,
    /// TCP: it opens a connection (SYN). Otherwise it is of one that is open.
    pub opens: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes up this host's own stack: to a program here, perhaps a backend.
    Passed,
    /// It is dropped.
    Dropped,
    /// It is sent to a backend.
    Sent,
    /// It is handed on to the next holder, in a planned move.
    HandedOn,
}

/// The way of a packet through this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What became of it.
    pub verdict: Verdict,
    /// It belongs to a flow that was known before.
    pub known: bool,
    /// The service that its address and port belong to.
    pub service: Option<Frontend>,
    /// The backend of its flow.
    pub backend: Option<(IpAddr, u16)>,
    /// That is the backend since its client was there before: the service keeps clients. Else the table says so, or the flow is known.
    pub kept: bool,
    /// Where it comes from when it goes on.
    pub source: (IpAddr, u16),
    /// Where it goes to.
    pub destination: (IpAddr, u16),
    /// What it goes inside of.
    pub outer: Option<Outer>,
    /// Why it was dropped: by the name of what the programs count, or `shut` if this node does not answer for the address.
    pub reason: Option<&'static str>,
}

/// The header that a packet got on its way to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Of which kind.
    pub dispatch: Dispatch,
    /// This host's own address.
    pub source: IpAddr,
    /// The backend's.
    pub destination: IpAddr,
}

const ETHERNET: usize = 14;
const V4: usize = 20;
const V6: usize = 40;
/// UDP and GUE.
const GUE: usize = 8 + 4;
const HOPS: u8 = 64;
/// Flags of a TCP header.
const SYN: u8 = 2;
const ACK: u8 = 16;

impl Packet {
    /// Its key in the table of flows.
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey {
            source: AddressKey::from(self.client.0),
            destination: AddressKey::from(self.vip.0),
            source_port: self.client.1.to_be_bytes(),
            destination_port: self.vip.1.to_be_bytes(),
            protocol: self.protocol.number(),
            reserved: [0; 3],
        }
    }

    /// It as a frame to this MAC, without anything in it. `None` if its addresses are of different families.
    pub(crate) fn frame(&self, to: [u8; 6]) -> Option<Vec<u8>> {
        const FROM: [u8; 6] = [2, 0, 0, 0, 0, 0];
        let transport = self.transport();
        let mut frame = [to, FROM].concat();
        match (self.client.0, self.vip.0) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let mut header = [0; V4];
                header[0] = 0x45;
                header[2..4].copy_from_slice(&((V4 + transport.len()) as u16).to_be_bytes());
                (header[8], header[9]) = (HOPS, self.protocol.number());
                header[12..16].copy_from_slice(&client.octets());
                header[16..20].copy_from_slice(&vip.octets());
                let checksum = checksum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend(0x0800u16.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                let mut header = [0; V6];
                header[0] = 0x60;
                header[4..6].copy_from_slice(&(transport.len() as u16).to_be_bytes());
                (header[6], header[7]) = (self.protocol.number(), HOPS);
                header[8..24].copy_from_slice(&client.octets());
                header[24..40].copy_from_slice(&vip.octets());
                frame.extend(0x86ddu16.to_be_bytes());
                frame.extend(header);
            }
            _ => return None,
        }
        frame.extend(transport);
        Some(frame)
    }

    /// Its TCP or UDP header. Nobody looks at the checksum here; programs that rewrite it go by differences.
    fn transport(&self) -> Vec<u8> {
        let mut header = [self.client.1.to_be_bytes(), self.vip.1.to_be_bytes()].concat();
        match self.protocol {
            Protocol::Tcp => {
                header.extend([0; 16]);
                header[12] = 0x50;
                header[13] = if self.opens { SYN } else { ACK };
            }
            Protocol::Udp => header.extend([0, 8, 0, 0]),
        }
        header
    }
}

/// The ends of a packet in a frame; `None` if it is cut short.
pub(crate) fn ends(frame: &[u8]) -> Option<[(IpAddr, u16); 2]> {
    let packet = frame.get(ETHERNET..)?;
    let v4 = packet.first()? >> 4 == 4;
    let (first, width, header) = if v4 { (12, 4, V4) } else { (8, 16, V6) };
    let address = |at: usize| -> Option<IpAddr> {
        let octets = packet.get(at..at + width)?;
        Some(if v4 {
            IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)
        })
    };
    let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    Some([
        (address(first)?, port(header)?),
        (address(first + width)?, port(header + 2)?),
    ])
}

/// The outer header of a frame that was wrapped so, and the frame inside; `None` if there is no such header.
pub(crate) fn unwrap(frame: &[u8], dispatch: Dispatch) -> Option<(Outer, Vec<u8>)> {
    let more = match dispatch {
        Dispatch::L2 => return None,
        Dispatch::Ipip => 0,
        Dispatch::Gue => GUE,
    };
    let header = if frame.get(ETHERNET)? >> 4 == 4 {
        V4
    } else {
        V6
    };
    let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
    let inside = packet.get(header + more..)?;
    let [source, destination] = ends(frame)?;
    let outer = Outer {
        dispatch,
        source: source.0,
        destination: destination.0,
    };
    Some((outer, [ethernet, inside].concat()))
}

fn checksum(header: &[u8; V4]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(client: &str, vip: &str, protocol: Protocol) -> Packet {
        Packet {
            client: (client.parse().unwrap(), 40_000),
            vip: (vip.parse().unwrap(), 80),
            protocol,
            opens: true,
        }
    }

    #[test]
    fn a_frame_has_the_ends_of_its_packet() {
        for (client, vip) in [("192.0.2.1", "192.0.2.7"), ("2001:db8::1", "2001:db8::7")] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let packet = packet(client, vip, protocol);
                let frame = packet.frame([9; 6]).unwrap();
                assert_eq!(ends(&frame), Some([packet.client, packet.vip]));
                assert_eq!(frame[..6], [9; 6]);
                assert!((0..frame.len() - 20).all(|cut| {
                    ends(&frame[..cut]).is_none_or(|it| it == [packet.client, packet.vip])
                }));
            }
        }
    }

    #[test]
    fn the_header_checksum_is_right() {
        let frame = packet("192.0.2.1", "192.0.2.7", Protocol::Tcp)
            .frame([9; 6])
            .unwrap();
        let header: [u8; V4] = frame[ETHERNET..ETHERNET + V4].try_into().unwrap();
        assert_eq!(checksum(&header), 0, "over a whole header");
    }

    #[test]
    fn a_wrapped_frame_is_found_inside_its_outer_header() {
        for (client, vip) in [("192.0.2.1", "192.0.2.7"), ("2001:db8::1", "2001:db8::7")] {
            let outer = packet(vip, client, Protocol::Udp).frame([9; 6]).unwrap();
            let inner = packet(client, vip, Protocol::Tcp).frame([9; 6]).unwrap();
            let header = if client.contains(':') { V6 } else { V4 };
            for (dispatch, more) in [(Dispatch::Ipip, 0), (Dispatch::Gue, GUE)] {
                let head = &outer[..ETHERNET + header];
                let frame = [head, &vec![0; more], &inner[ETHERNET..]].concat();
                let (found, inside) = unwrap(&frame, dispatch).unwrap();
                let ends = (found.source.to_string(), found.destination.to_string());
                assert_eq!(ends, (vip.to_owned(), client.to_owned()));
                assert_eq!((found.dispatch, inside), (dispatch, inner.clone()));
                assert_eq!(
                    unwrap(&frame[..ETHERNET + header + more - 1], dispatch),
                    None
                );
            }
            assert_eq!(unwrap(&inner, Dispatch::L2), None);
        }
    }

    #[test]
    fn families_do_not_mix() {
        assert_eq!(
            packet("192.0.2.1", "2001:db8::7", Protocol::Udp).frame([9; 6]),
            None
        );
    }
}
