//! Where the kernel would send packets for an address, and whether that may have changed.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
};

use rtnetlink::{
    MulticastGroup,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{is_ours, listen};
use crate::{DatapathError, balance::Reach};

/// Longest message: a route with many next hops.
const LONGEST: usize = 32_768;
/// Room for what the kernel tells between two audits, bytes; what is missed counts as a change.
const ROOM: usize = 1 << 20;
/// What moves a route.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Sockets of its own in the network namespace of the thread that opened it.
pub(crate) struct Routes {
    asks: Socket,
    sequence: u32,
    /// Only while somebody wants to know: a router's table changes all the time.
    told: Option<Socket>,
}

impl Routes {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let open = open()
            .map_err(|source: io::Error| DatapathError::system("open a netlink socket", source));
        Ok(Self {
            asks: open?,
            sequence: 0,
            told: None,
        })
    }

    /// How this host reaches the address; `None` if nothing leads there. About 10 µs.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn reach(&mut self, address: IpAddr) -> Result<Option<Reach>, DatapathError> {
        let found = self.ask(address).and_then(|found| match found {
            Some(reach) if reach.on_link && !reach.local => {
                let link = self.prefix(address)?;
                Ok(Some(Reach { link, ..reach }))
            }
            other => Ok(other),
        });
        found.map_err(|source| {
            DatapathError::system(format!("ask the kernel for the route to {address}"), source)
        })
    }

    /// How long the prefix is of the route to an address on a link.
    fn prefix(&mut self, address: IpAddr) -> io::Result<Option<u8>> {
        let mut question = question(address);
        question.header.flags = RouteFlags::FibMatch;
        let length = self
            .route(question)?
            .map(|route| route.header.destination_prefix_length);
        // A way out for everybody says nothing of who is on it.
        Ok(length.filter(|length| *length > 0))
    }

    fn ask(&mut self, address: IpAddr) -> io::Result<Option<Reach>> {
        Ok(self.route(question(address))?.as_ref().and_then(reach))
    }

    fn route(&mut self, question: RouteMessage) -> io::Result<Option<RouteMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(question));
        message.header.flags = NLM_F_REQUEST;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut datagram = vec![0; message.buffer_len()];
        message.serialize(&mut datagram);
        self.asks.send(&datagram, 0)?;
        let mut buffer = vec![0; LONGEST];
        loop {
            // The kernel has answered before `send` returned.
            let length = self.asks.recv(&mut &mut buffer[..], 0)?;
            let datagram = buffer.get(..length).unwrap_or(&buffer);
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
                .map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue; // of a question whose answer nobody could read
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    Ok(Some(route))
                }
                NetlinkPayload::Error(error) => unreachable(error.to_io()),
                _ => Err(ErrorKind::InvalidData.into()),
            };
        }
    }

    /// Whether any route, link or address may have changed since the last call. The first call says
    /// so. Until [`Self::stop_listening`] the kernel tells each change.
    ///
    /// # Errors
    /// If the kernel cannot be listened to.
    pub(crate) fn changed(&mut self) -> Result<bool, DatapathError> {
        let Some(told) = &self.told else {
            let told = listen(ROOM, &GROUPS).map_err(|source| {
                DatapathError::system("listen to the kernel's news of routes", source)
            })?;
            self.told = Some(told);
            return Ok(true);
        };
        let mut changed = false;
        let mut buffer = vec![0; LONGEST];
        loop {
            match told.recv(&mut &mut buffer[..], 0) {
                Ok(length) => {
                    changed |= matters(buffer.get(..length).unwrap_or(&buffer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(changed),
                // An overrun: something was missed. The next call goes on.
                Err(_) => return Ok(true),
            }
        }
    }

    /// Nobody wants to know any more.
    pub(crate) fn stop_listening(&mut self) {
        self.told = None;
    }
}

/// Where would a packet for this address go?
fn question(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length, destination) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(v6)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes = vec![RouteAttribute::Destination(destination)];
    message
}

fn reach(route: &RouteMessage) -> Option<Reach> {
    let local = match route.header.kind {
        RouteType::Local => true,
        RouteType::Unicast => false,
        _ => return None, // unreachable, prohibited, multicast, ...
    };
    let (mut ifindex, mut on_link) = (None, true);
    let (mut source, mut mtu) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => on_link = false,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => source = Some(IpAddr::from(*v4)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => source = Some(IpAddr::from(*v6)),
            _ => {}
        }
    }
    ifindex.map(|ifindex| Reach {
        ifindex,
        local,
        on_link,
        source,
        link: None,
        mtu,
    })
}

/// What the kernel says where it has no route for packets.
fn unreachable<T>(error: io::Error) -> io::Result<Option<T>> {
    use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH};
    match error.raw_os_error() {
        Some(EACCES | EHOSTUNREACH | EINVAL | ENETDOWN | ENETUNREACH) => Ok(None),
        _ => Err(error),
    }
}

/// Whether a message is of more than vipd's own addresses coming and going.
fn matters(datagram: &[u8]) -> bool {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram).map(|it| it.payload) {
        Ok(NetlinkPayload::InnerMessage(message)) => match message {
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                !is_ours(&address)
            }
            // An address of this host is told of as an address.
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                route.header.kind != RouteType::Local
            }
            _ => true,
        },
        _ => true,
    }
}
