//! The messages: how vipd's addresses and routes look.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    AddressFamily,
    address::{
        AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
        AddressScope, CacheInfo,
    },
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use crate::plan::Presence;

/// The protocol of addresses and routes that vipd adds (`ip address` shows `proto 0x76`). The kernel keeps that of
/// an address since Linux 5.18.
const PROTOCOL: u8 = b'v';
/// Until somebody removes it.
const FOREVER: u32 = u32::MAX;
/// RT_TABLE_LOCAL of linux/rtnetlink.h: what is delivered to this host.
const TABLE_LOCAL: u8 = 255;

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A host address: no route to a subnet, no duplicate address detection (the cluster has decided), and IPv6 never as
/// the source that the kernel picks by itself.
pub(super) fn address(address: IpAddr, ifindex: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.prefix_len = width(address);
    message.header.flags = AddressHeaderFlags::Nodad;
    message.header.scope = AddressScope::Universe;
    message.header.index = ifindex;
    let preferred = match address {
        IpAddr::V4(_) => {
            message.header.family = AddressFamily::Inet;
            FOREVER
        }
        // Deprecated: it serves whoever asks for it, but the kernel does not choose it as the
        // source of this host's own connections, which would die with the lease.
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            0
        }
    };
    let mut lifetime = CacheInfo::default();
    (lifetime.ifa_preferred, lifetime.ifa_valid) = (preferred, FOREVER);
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
        AddressAttribute::CacheInfo(lifetime),
        AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)),
    ];
    message
}

/// A route that delivers an address to this host although it is on no interface.
pub(super) fn route(address: IpAddr, ifindex: u32) -> RouteMessage {
    let (address_family, destination) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, RouteAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, RouteAddress::Inet6(v6)),
    };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family,
        destination_prefix_length: width(address),
        table: TABLE_LOCAL,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: if address.is_ipv4() {
            RouteScope::Host
        } else {
            RouteScope::Universe
        },
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(destination),
        RouteAttribute::Oif(ifindex),
    ];
    message
}

/// The address and the interface of a route, if vipd made it.
pub(super) fn our_route(message: &RouteMessage) -> Option<(IpAddr, u32)> {
    let header = &message.header;
    if header.table != TABLE_LOCAL || header.protocol != RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let (mut address, mut ifindex) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = Some((*v4).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = Some((*v6).into()),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            _ => {}
        }
    }
    Some((address?, ifindex?))
}

/// Reads an address on an interface, with its prefix length. `IFA_LOCAL` is the address itself; `IFA_ADDRESS` is that
/// of the peer on point-to-point links.
pub(super) fn read(message: &AddressMessage) -> Option<(IpAddr, u8, Presence)> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            _ => {}
        }
    }
    let presence = Presence {
        ifindex: message.header.index,
        ours: is_ours(message),
    };
    Some((local.or(address)?, message.header.prefix_len, presence))
}

/// Whether vipd put the address there, by the kernel's record.
pub(crate) fn is_ours(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(attribute, AddressAttribute::Protocol(value) if u8::from(*value) == PROTOCOL)
    })
}
