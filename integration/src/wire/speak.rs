//! Frames of our own making: questions, and announcements for the tests of the judge itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::lab::{Host, Mac};

/// Says on the wire that `address` is at `host`, as a new holder does: a gratuitous ARP, or an
/// unsolicited advertisement with the override flag. For moving an address by hand.
pub fn announce(host: &Host, address: IpAddr) -> Result<()> {
    let frame = match address {
        IpAddr::V4(own) => arp(host.mac(), 1, own, own),
        IpAddr::V6(own) => advertisement(host.mac(), own),
    };
    Line::open(host)?.send(&frame)
}

/// A raw socket on a host's interface that only sends.
pub(super) struct Line {
    socket: OwnedFd,
    link: LinkAddr,
}

impl Line {
    pub(super) fn open(host: &Host) -> Result<Self> {
        host.netns()?.enter(|| {
            let link = getifaddrs()?
                .filter(|i| i.interface_name == host.interface())
                .find_map(|i| i.address?.as_link_addr().copied())
                .ok_or_else(|| anyhow!("{} has no interface {}", host.name(), host.interface()))?;
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .context("cannot open a raw socket (needs CAP_NET_RAW)")?;
            Ok(Self { socket, link })
        })
    }

    pub(super) fn send(&self, frame: &[u8]) -> Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.link,
            MsgFlags::empty(),
        )?;
        Ok(())
    }
}

pub(super) fn who_has(mac: Mac, own: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    arp(mac, 1, own, wanted)
}

fn arp(mac: Mac, operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    // Ethernet, IPv4, lengths 6 and 4
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

pub(super) fn solicitation(mac: Mac, own: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = wanted.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(x),
        u16::from_be_bytes([y, z]),
    );
    // type, code, checksum, reserved; the option is the source's Ethernet address
    neighbour([135, 0, 0, 0, 0, 0, 0, 0], mac, own, group, wanted, 1)
}

fn advertisement(mac: Mac, own: Ipv6Addr) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // 0x20: override; the option is the target's Ethernet address
    neighbour([136, 0, 0, 0, 0x20, 0, 0, 0], mac, own, all, own, 2)
}

fn neighbour(
    head: [u8; 8],
    mac: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
    option: u8,
) -> Vec<u8> {
    let mut message = head.to_vec();
    message.extend(target.octets());
    message.extend([option, 1]);
    message.extend(mac.0);
    let sum = checksum(from, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let [.., w, x, y, z] = to.octets();
    let mut frame = ethernet([0x33, 0x33, w, x, y, z], mac, 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, 58, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: Mac, kind: u16) -> Vec<u8> {
    [&to[..], &from.0, &kind.to_be_bytes()].concat()
}

/// The ICMPv6 checksum over the pseudo header and an even number of bytes.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo = [0, 0, 0, message.len() as u8, 0, 0, 0, 58];
    let whole = [&from.octets()[..], &to.octets(), &pseudo, message].concat();
    let sum = whole.chunks(2).fold(0_u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair[1])
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn a_solicitation_is_one_that_an_independent_parser_accepts() {
        let (mac, own) = (Mac([2, 0, 0, 0, 0, 9]), "fd77::250".parse().unwrap());
        let frame = solicitation(mac, own, "fd77::1:2:3".parse().unwrap());
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
            (packet.net, packet.transport)
        else {
            panic!("not ICMPv6");
        };
        let (from, to) = (ip.header().source(), ip.header().destination());
        assert!(icmp.is_checksum_valid(from, to));
        assert_eq!(
            ip.header().destination_addr(),
            "ff02::1:ff02:3".parse::<Ipv6Addr>().unwrap()
        );
        assert!(
            matches!(icmp.icmp_type(), Icmpv6Type::NeighborSolicitation),
            "{:?}",
            icmp.icmp_type()
        );
    }

    #[test]
    fn an_announcement_is_one_that_an_independent_parser_accepts() {
        let frame = advertisement(Mac([2, 0, 0, 0, 0, 9]), "fd77::100".parse().unwrap());
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
            (packet.net, packet.transport)
        else {
            panic!("not ICMPv6");
        };
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        assert_eq!(&frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    }

    #[test]
    fn a_who_has_is_one_that_an_independent_parser_accepts() {
        let frame = who_has(
            Mac([2, 0, 0, 0, 0, 9]),
            [10, 77, 0, 250].into(),
            [10, 77, 0, 100].into(),
        );
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Arp(arp)) = packet.net else {
            panic!("not ARP")
        };
        assert_eq!(arp.target_protocol_addr(), [10, 77, 0, 100]);
        assert_eq!(arp.sender_protocol_addr(), [10, 77, 0, 250]);
    }
}
