//! The frames: questions that name nobody as their sender, and what counts as an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vipd_datapath_common::frame::{Arp, BROADCAST};

const ETHERNET: usize = 14;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Neighbour discovery is believed only when it has passed no router.
const HOPS: u8 = 255;

/// Who has `address`? From `mac`, which does not say that it has any.
pub(super) fn question(address: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => {
            let probe = Arp {
                operation: Arp::REQUEST,
                destination: BROADCAST,
                sender_mac: mac,
                sender: [0; 4],
                target_mac: [0; 6],
                target: v4.octets(),
            };
            probe.frame().to_vec()
        }
        IpAddr::V6(v6) => solicitation(v6, mac),
    }
}

fn solicitation(target: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    let sum = checksum(Ipv6Addr::UNSPECIFIED, group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0xff, a, b, c];
    frame.extend(mac);
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOPS]);
    frame.extend(Ipv6Addr::UNSPECIFIED.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// The internet checksum of a message with its pseudo-header.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = [source.octets(), destination.octets()].concat();
    let mut sum = message.len() as u32 + u32::from(ICMPV6);
    for pair in words.chunks(2).chain(message.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What a frame says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) address: IpAddr,
    /// The MAC that has it: of ARP what it says, since a bridge may speak for a host.
    pub(super) mac: [u8; 6],
    /// The MAC that sent the frame.
    pub(super) source: [u8; 6],
    /// Whether it asks for it, to have it, and does not have it yet.
    pub(super) asks: bool,
}

/// The address that a frame says its sender has, or asks for as his own.
pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
    let (head, packet) = frame.split_at_checked(ETHERNET)?;
    let source: [u8; 6] = head.get(6..12)?.try_into().ok()?;
    match head.get(12..14)? {
        kind if *kind == ARP => claimed_by_arp(packet, source),
        kind if *kind == IPV6 => claimed_by_icmpv6(packet, source),
        _ => None,
    }
}

fn claimed_by_arp(packet: &[u8], source: [u8; 6]) -> Option<Claim> {
    // Ethernet and IPv4.
    if packet.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let at = |from: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = packet.get(from..from + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    let (sender, target) = (at(14)?, at(24)?);
    let asks = sender.is_unspecified();
    Some(Claim {
        address: if asks { target } else { sender }.into(),
        mac: packet.get(8..14)?.try_into().ok()?,
        source,
        asks,
    })
}

fn claimed_by_icmpv6(packet: &[u8], source: [u8; 6]) -> Option<Claim> {
    let octets = |from: usize| -> Option<Ipv6Addr> {
        let octets: [u8; 16] = packet.get(from..from + 16)?.try_into().ok()?;
        Some(octets.into())
    };
    if *packet.get(6)? != ICMPV6 || *packet.get(7)? != HOPS {
        return None;
    }
    let (sender, target) = (octets(8)?, octets(48)?);
    let asks = sender.is_unspecified();
    let address = match *packet.get(40)? {
        ADVERTISEMENT => target,
        SOLICITATION if asks => target,
        // Who asks for another one has the address that he asks from.
        SOLICITATION => sender,
        _ => return None,
    };
    Some(Claim {
        address: address.into(),
        mac: source,
        source,
        asks: asks && *packet.get(40)? == SOLICITATION,
    })
}

#[cfg(test)]
mod tests {
    use vipd_datapath_common::frame::Advertisement;

    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// Who has which address, by a frame, and whether he only asks for it.
    fn said(frame: &[u8]) -> Option<(IpAddr, [u8; 6], bool)> {
        claim(frame).map(|it| (it.address, it.mac, it.asks))
    }

    #[test]
    fn a_question_names_nobody_as_having_the_address_but_is_a_claim_of_who_asks() {
        for address in ["10.0.0.7", "fd00::7:1234"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(said(&question(address, OWN)), Some((address, OWN, true)));
        }
    }

    #[test]
    fn the_checksum_of_a_solicitation_is_right() {
        let frame = question("fd00::7:1234".parse().unwrap(), OWN);
        let (source, group) = (Ipv6Addr::UNSPECIFIED, "ff02::1:ff07:1234".parse().unwrap());
        assert_eq!(frame[38..54], Ipv6Addr::octets(&group));
        assert_eq!(checksum(source, group, &frame[54..]), 0);
    }

    #[test]
    fn whoever_has_it_is_told_by_any_arp_that_he_sends_and_by_an_advertisement() {
        let mac = [2, 0, 0, 0, 0, 9];
        let gratuitous = Arp::gratuitous(Arp::REPLY, [10, 0, 0, 7], mac).frame();
        let v4 = "10.0.0.7".parse().unwrap();
        assert_eq!(said(&gratuitous), Some((v4, mac, false)));
        let v6: Ipv6Addr = "fd00::7".parse().unwrap();
        let advertisement = Advertisement::unsolicited(v6.octets(), mac, false).frame();
        assert_eq!(said(&advertisement), Some((v6.into(), mac, false)));
    }

    #[test]
    fn who_asks_for_another_address_has_the_one_that_he_asks_from() {
        let mac = [2, 0, 0, 0, 0, 9];
        let mut asking = question("fd00::1".parse().unwrap(), mac);
        let v6: Ipv6Addr = "fd00::7".parse().unwrap();
        asking[22..38].copy_from_slice(&v6.octets());
        assert_eq!(said(&asking), Some((v6.into(), mac, false)));
        let request = Arp {
            operation: Arp::REQUEST,
            destination: BROADCAST,
            sender_mac: mac,
            sender: [10, 0, 0, 7],
            target_mac: [0; 6],
            target: [10, 0, 0, 1],
        };
        let v4 = "10.0.0.7".parse().unwrap();
        assert_eq!(said(&request.frame()), Some((v4, mac, false)));
    }

    #[test]
    fn what_is_cut_short_or_something_else_claims_nothing() {
        let whole = question("fd00::7".parse().unwrap(), OWN);
        for n in 0..70 {
            assert_eq!(claim(&whole[..n]), None, "{n}");
        }
        let mut other = whole.clone();
        other[20] = 17;
        assert_eq!(claim(&other), None, "UDP");
        let mut far = whole;
        far[21] = 64;
        assert_eq!(claim(&far), None, "through a router");
    }
}
