//! Frames as other hosts send them, made without the code under test.

use std::net::{Ipv4Addr, Ipv6Addr};

use vipd_datapath_common::frame::Arp;

use super::{MAC_CLIENT, MAC_HOST};

pub const BROADCAST: [u8; 6] = [0xff; 6];

pub fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

/// Who has `target`? Tell `sender`.
pub fn who_has(target: &str, sender: &str) -> Vec<u8> {
    arp(Arp::REQUEST, BROADCAST, MAC_CLIENT, sender, target)
}

pub fn arp(operation: u8, to: [u8; 6], from: [u8; 6], sender: &str, target: &str) -> Vec<u8> {
    let bytes = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let packet = [
        &[0, 1, 8, 0, 6, 4, 0, operation][..],
        &from,
        &bytes(sender),
        &[0; 6],
        &bytes(target),
    ];
    ethernet(to, from, 0x0806, &packet.concat())
}

pub fn ipv4(source: &str, destination: &str) -> Vec<u8> {
    let bytes = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    let packet = [&head[..], &bytes(source), &bytes(destination), &[0; 8]];
    ethernet(MAC_HOST, MAC_CLIENT, 0x0800, &packet.concat())
}

pub fn ipv6(source: &str, destination: &str, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let bytes = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(bytes(source));
    packet.extend(bytes(destination));
    packet.extend(payload);
    ethernet(MAC_HOST, MAC_CLIENT, 0x86dd, &packet)
}

/// The ICMPv6 message of a solicitation, with whatever options.
pub fn solicitation(target: &str, options: &[u8]) -> Vec<u8> {
    let target = target.parse::<Ipv6Addr>().unwrap().octets();
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, options].concat()
}

/// The ICMPv6 message of an advertisement.
pub fn advertisement(target: &str, flags: u8) -> Vec<u8> {
    let target = target.parse::<Ipv6Addr>().unwrap().octets();
    [
        &[136, 0, 0, 0, flags, 0, 0, 0][..],
        &target,
        &[2, 1, 2, 0, 0, 0, 0, 9],
    ]
    .concat()
}

/// Source link-layer address of the client.
pub const SLLAO: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 2];

/// A frame with an 802.1Q tag put in.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [
        &frame[..12],
        &[0x81, 0x00],
        &vlan.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// Verifies an ICMPv6 checksum from the bytes of a frame.
pub fn icmpv6_checksum_holds(frame: &[u8]) -> bool {
    let length = u32::from(u16::from_be_bytes([frame[18], frame[19]]));
    let mut sum = length + 58;
    for pair in frame[22..54 + length as usize].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}
