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
#[derive(Debug)]
pub(crate) struct Line {
    socket: OwnedFd,
    link: LinkAddr,
}

impl Line {
    /// Opens it; needs CAP_NET_RAW.
    pub(crate) fn open(host: &Host) -> Result<Self> {
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

    /// Sends one frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.link,
            MsgFlags::empty(),
        )?;
        Ok(())
    }
}

/// "Who has `wanted`?" from a host with these addresses, to everybody.
pub(crate) fn question(mac: Mac, v4: Ipv4Addr, v6: Ipv6Addr, wanted: IpAddr) -> Vec<u8> {
    match wanted {
        IpAddr::V4(wanted) => arp(mac, 1, v4, wanted),
        IpAddr::V6(wanted) => solicitation(mac, v6, wanted),
    }
}

/// "Are you there?" from a host with these addresses, to `wanted` at the Ethernet address `to`.
pub(crate) fn echo_request(
    mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    to: Mac,
    wanted: IpAddr,
) -> Vec<u8> {
    // type, code, checksum, identifier, sequence number
    let head = |kind: u8| vec![kind, 0, 0, 0, 0x76, 0x69, 0, 1];
    match wanted {
        IpAddr::V4(wanted) => {
            let mut message = head(8);
            let sum = internet_checksum(&message);
            message[2..4].copy_from_slice(&sum);
            let mut packet = vec![
                0x45,
                0,
                0,
                20 + message.len() as u8,
                0,
                0,
                0,
                0,
                64,
                1,
                0,
                0,
            ];
            packet.extend(v4.octets());
            packet.extend(wanted.octets());
            let sum = internet_checksum(&packet);
            packet[10..12].copy_from_slice(&sum);
            [ethernet(to.0, mac, 0x0800), packet, message].concat()
        }
        IpAddr::V6(wanted) => {
            let mut message = head(128);
            let sum = checksum(v6, wanted, &message);
            message[2..4].copy_from_slice(&sum);
            let mut frame = ethernet(to.0, mac, 0x86dd);
            frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, 58, 64]);
            frame.extend(v6.octets());
            frame.extend(wanted.octets());
            frame.extend(message);
            frame
        }
    }
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

fn solicitation(mac: Mac, own: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
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
    message[2..4].copy_from_slice(&sum);

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

/// The ICMPv6 checksum, which covers a pseudo header too.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let pseudo = [0, 0, 0, message.len() as u8, 0, 0, 0, 58];
    internet_checksum(&[&from.octets()[..], &to.octets(), &pseudo, message].concat())
}

/// RFC 1071, over an even number of bytes.
fn internet_checksum(bytes: &[u8]) -> [u8; 2] {
    let sum = bytes.chunks(2).fold(0_u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair[1])
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const ME: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const YOU: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 250);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfa);

    #[test]
    fn an_echo_request_is_one_that_a_kernel_accepts() {
        let wanted = Ipv4Addr::new(10, 77, 39, 16);
        let frame = echo_request(ME, V4, V6, YOU, wanted.into());
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = packet.net else {
            panic!("not IPv4: {packet:?}");
        };
        assert_eq!(ip.header().destination_addr(), wanted);
        assert_eq!(
            ip.header().header_checksum(),
            ip.header().to_header().calc_header_checksum()
        );
        let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else {
            panic!("not ICMP");
        };
        assert_eq!(
            icmp.header().checksum,
            icmp.header().icmp_type.calc_checksum(icmp.payload())
        );

        let wanted = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, 0x2710);
        let frame = echo_request(ME, V4, V6, YOU, wanted.into());
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else {
            panic!("not ICMPv6: {packet:?}");
        };
        assert!(icmp.is_checksum_valid(V6.octets(), wanted.octets()));
    }
}
