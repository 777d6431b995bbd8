//! What a frame claims: "this address is at this Ethernet address". Reads, never trusts.
//!
//! A client believes an ARP packet's sender, a neighbour advertisement's target, and (for what its
//! peers reply to) the source of any packet. Each of the three is a claim.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::lab::Mac;

/// How a claim was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// An ARP reply to somebody who asked.
    ArpReply,
    /// A gratuitous ARP, request or reply form: sender and target are the same address.
    Gratuitous,
    /// An ARP request for another address, sent in the name of this one.
    ArpRequest,
    /// A neighbour advertisement to somebody who asked.
    Advertisement,
    /// An unsolicited neighbour advertisement.
    Unsolicited,
    /// An ordinary packet whose source is the address.
    Packet,
}

impl How {
    /// Whether it answers a question of who has the address (as opposed to announcing or using it).
    pub fn is_reply(self) -> bool {
        matches!(self, Self::ArpReply | Self::Advertisement)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArpReply => "ARP reply",
            Self::Gratuitous => "gratuitous ARP",
            Self::ArpRequest => "ARP request",
            Self::Advertisement => "neighbour advertisement",
            Self::Unsolicited => "unsolicited neighbour advertisement",
            Self::Packet => "packet",
        })
    }
}

/// One frame's claim to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address claimed.
    pub address: IpAddr,
    /// The Ethernet address said to have it.
    pub mac: Mac,
    /// How it was said.
    pub how: How,
}

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OPTION_TARGET_MAC: u8 = 2;

/// The claim that `frame` makes, if it makes any.
pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
    let sender = mac(frame, 6)?;
    let rest = frame.get(14..)?;
    match u16::from_be_bytes(bytes(frame, 12)?) {
        ARP => arp(rest),
        IPV4 => Some(Claim {
            address: v4(rest, 12)?,
            mac: sender,
            how: How::Packet,
        }),
        IPV6 => ipv6(rest, sender),
        _ => None,
    }
}

/// The address that `frame` asks for in nobody's name, as who does wants to have it (RFC 5227, RFC 4862), and who that is.
pub(super) fn probe(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let rest = frame.get(14..)?;
    let nobody = |from: Option<IpAddr>| from.filter(|from| from.is_unspecified());
    let address = match u16::from_be_bytes(bytes(frame, 12)?) {
        ARP => nobody(v4(rest, 14)).and(v4(rest, 24)),
        IPV6 if rest.get(6) == Some(&ICMPV6) && rest.get(40) == Some(&SOLICITATION) => {
            nobody(v6(rest, 8)).and(v6(rest, 48))
        }
        _ => None,
    };
    Some((address?, mac(frame, 6)?))
}

fn arp(packet: &[u8]) -> Option<Claim> {
    let (sender, target) = (v4(packet, 14)?, v4(packet, 24)?);
    // A probe (RFC 5227) asks in nobody's name: it claims nothing.
    if sender == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return None;
    }
    let how = match u16::from_be_bytes(bytes(packet, 6)?) {
        _ if sender == target => How::Gratuitous,
        1 => How::ArpRequest,
        2 => How::ArpReply,
        _ => return None,
    };
    Some(Claim {
        address: sender,
        mac: mac(packet, 8)?,
        how,
    })
}

fn ipv6(packet: &[u8], sender: Mac) -> Option<Claim> {
    if packet.get(6) == Some(&ICMPV6) && packet.get(40) == Some(&ADVERTISEMENT) {
        let flags = packet.get(44)?;
        return Some(Claim {
            address: v6(packet, 48)?,
            mac: target_mac(packet.get(64..)?).unwrap_or(sender),
            how: if flags & 0x40 != 0 {
                How::Advertisement
            } else {
                How::Unsolicited
            },
        });
    }
    let address = v6(packet, 8)?;
    // From "::" comes duplicate address detection: it claims nothing.
    (address != IpAddr::V6(Ipv6Addr::UNSPECIFIED)).then_some(Claim {
        address,
        mac: sender,
        how: How::Packet,
    })
}

/// The target link-layer address among the options of an advertisement.
fn target_mac(mut options: &[u8]) -> Option<Mac> {
    while let [kind, length, ..] = *options {
        if kind == OPTION_TARGET_MAC {
            return mac(options, 2);
        }
        options = options.get(usize::from(length.max(1)) * 8..)?;
    }
    None
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

fn mac(from: &[u8], at: usize) -> Option<Mac> {
    bytes(from, at).map(Mac)
}

fn v4(from: &[u8], at: usize) -> Option<IpAddr> {
    bytes::<4>(from, at).map(IpAddr::from)
}

fn v6(from: &[u8], at: usize) -> Option<IpAddr> {
    bytes::<16>(from, at).map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};

    use super::*;

    const ME: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const VIP: [u8; 4] = [10, 77, 0, 100];
    const VIP6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

    fn arp_frame(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let arp = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            ArpOperation(operation),
            &ME.0,
            &sender,
            &OTHER,
            &target,
        )
        .unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(ME.0, OTHER)
            .arp(arp)
            .write(&mut frame)
            .unwrap();
        frame
    }

    fn said(frame: &[u8]) -> Option<(IpAddr, Mac, How)> {
        claim(frame).map(|c| (c.address, c.mac, c.how))
    }

    #[test]
    fn arp_claims_its_sender_and_a_probe_claims_nothing() {
        let vip = IpAddr::from(VIP);
        let client = [10, 77, 0, 200];
        assert_eq!(
            said(&arp_frame(2, VIP, client)),
            Some((vip, ME, How::ArpReply))
        );
        assert_eq!(
            said(&arp_frame(1, VIP, client)),
            Some((vip, ME, How::ArpRequest))
        );
        assert_eq!(
            said(&arp_frame(1, VIP, VIP)),
            Some((vip, ME, How::Gratuitous))
        );
        assert_eq!(
            said(&arp_frame(2, VIP, VIP)),
            Some((vip, ME, How::Gratuitous))
        );
        assert_eq!(said(&arp_frame(1, [0; 4], VIP)), None);
    }

    #[test]
    fn a_packet_claims_its_source() {
        let mut frame = Vec::new();
        let udp = PacketBuilder::ethernet2(ME.0, OTHER)
            .ipv4(VIP, [10, 77, 0, 200], 64)
            .udp(7, 7);
        udp.write(&mut frame, b"hello").unwrap();
        assert_eq!(said(&frame), Some((VIP.into(), ME, How::Packet)));

        frame.clear();
        let udp = PacketBuilder::ethernet2(ME.0, OTHER)
            .ipv6(VIP6, VIP6, 64)
            .udp(7, 7);
        udp.write(&mut frame, b"hello").unwrap();
        assert_eq!(said(&frame), Some((VIP6.into(), ME, How::Packet)));
    }

    fn advertisement(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut body = vec![flags, 0, 0, 0];
        body.extend(VIP6);
        body.extend(options);
        let mut frame = Vec::new();
        let rest: [u8; 4] = body[..4].try_into().unwrap();
        PacketBuilder::ethernet2(ME.0, OTHER)
            .ipv6([0xfe; 16], [0xff; 16], 255)
            .icmpv6_raw(ADVERTISEMENT, 0, rest)
            .write(&mut frame, &body[4..])
            .unwrap();
        frame
    }

    #[test]
    fn an_advertisement_claims_its_target_for_the_mac_in_its_option() {
        let vip = IpAddr::from(VIP6);
        let option = [&[2, 1][..], &OTHER].concat();
        assert_eq!(
            said(&advertisement(0x60, &option)),
            Some((vip, Mac(OTHER), How::Advertisement))
        );
        assert_eq!(
            said(&advertisement(0x20, &option)),
            Some((vip, Mac(OTHER), How::Unsolicited))
        );
        // Without the option a client takes the sender of the frame.
        assert_eq!(
            said(&advertisement(0x60, &[])),
            Some((vip, ME, How::Advertisement))
        );
        let padded = [&[1, 1, 9, 9, 9, 9, 9, 9][..], &option].concat();
        assert_eq!(
            said(&advertisement(0x60, &padded)),
            Some((vip, Mac(OTHER), How::Advertisement))
        );
    }

    #[test]
    fn a_frame_cut_anywhere_is_read_without_a_panic() {
        for frame in [
            arp_frame(2, VIP, VIP),
            advertisement(0x60, &[2, 0, 1, 2, 3, 4, 5, 6]),
        ] {
            for length in 0..frame.len() {
                let _ = claim(&frame[..length]);
            }
        }
    }
}
