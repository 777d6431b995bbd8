//! Reads everything, as netlink dumps.

use std::{collections::BTreeMap, fs, io, net::IpAddr};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        link::{InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType},
        route::RouteMessage,
    },
};
use tokio::task::JoinHandle;

use super::message;
use crate::{
    DatapathError, Interface,
    plan::{Link, Presence},
};

/// A connection to rtnetlink in the network namespace of the thread that opened it.
pub(crate) struct Dump {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The interfaces that can carry virtual IPs.
#[derive(Default)]
pub(crate) struct Links {
    /// Without their prefixes.
    pub(crate) interfaces: Vec<Interface>,
    /// How often each has got its carrier: it tells of a link that was lost and is back.
    pub(crate) carriers: BTreeMap<u32, u32>,
}

impl Dump {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| DatapathError::system("open a netlink socket", source))?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// All Ethernet interfaces but loopback and ports of others.
    pub(crate) async fn links(&self) -> Result<Links, DatapathError> {
        let mut found = Links::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await.map_err(failed("list interfaces"))? {
            if message.header.link_layer_type != LinkLayerType::Ether {
                continue;
            }
            let (mut name, mut mac, mut carriers, mut port) = (None, None, 0, false);
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(value) => name = Some(value),
                    LinkAttribute::Address(value) => mac = value.try_into().ok(),
                    LinkAttribute::CarrierUpCount(value) => carriers = value,
                    LinkAttribute::LinkInfo(infos) => port = infos.iter().any(is_port),
                    _ => {}
                }
            }
            let (Some(name), Some(mac), false) = (name, mac, port) else {
                continue;
            };
            let up = LinkFlags::Up | LinkFlags::LowerUp;
            found.carriers.insert(message.header.index, carriers);
            found.interfaces.push(Interface {
                name,
                index: message.header.index,
                mac,
                up: message.header.flags.contains(up),
                prefixes: Vec::new(),
            });
        }
        Ok(found)
    }

    /// The addresses of all interfaces, with their prefix lengths.
    pub(crate) async fn addresses(&self) -> Result<Vec<(IpAddr, u8, Presence)>, DatapathError> {
        let mut found = Vec::new();
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses
            .try_next()
            .await
            .map_err(failed("list addresses"))?
        {
            found.extend(message::read(&message));
        }
        Ok(found)
    }

    /// Whether an interface has a filter of this handle in both directions. It has none if nobody can tell: then they
    /// are put there again.
    pub(crate) async fn has_filters(&self, ifindex: u32, handle: u32) -> bool {
        let of = || self.handle.traffic_filter(ifindex.cast_signed()).get();
        for request in [of().ingress(), of().egress()] {
            let handles: Result<Vec<_>, _> = request
                .execute()
                .map_ok(|message| message.header.handle)
                .try_collect()
                .await;
            let there = handles.is_ok_and(|found| found.iter().any(|it| u32::from(*it) == handle));
            if !there {
                return false;
            }
        }
        true
    }

    /// The routes by which vipd delivers addresses to this host.
    pub(crate) async fn our_routes(&self) -> Result<Vec<(IpAddr, u32)>, DatapathError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut all = RouteMessage::default();
            all.header.address_family = family;
            let mut routes = self.handle.route().get(all).execute();
            while let Some(message) = routes.try_next().await.map_err(failed("list routes"))? {
                found.extend(message::our_route(&message));
            }
        }
        Ok(found)
    }
}

/// Whether an interface is a port of a bridge, bond or team. Its host side is the master, which answers and is
/// fenced; a program on the port would swallow what is meant for the master or for guests behind it. A member of a
/// VRF is a host side itself.
fn is_port(info: &LinkInfo) -> bool {
    match info {
        LinkInfo::PortKind(InfoPortKind::Vrf) => false,
        LinkInfo::PortKind(_) => true,
        _ => false,
    }
}

/// The interfaces by name, as the plan needs them.
pub(crate) fn links(interfaces: &[Interface]) -> BTreeMap<String, Link> {
    let link = |interface: &Interface| Link {
        index: interface.index,
        mac: interface.mac,
        router: forwards_ipv6(&interface.name),
    };
    interfaces
        .iter()
        .map(|interface| (interface.name.clone(), link(interface)))
        .collect()
}

fn forwards_ipv6(interface: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/forwarding"))
        .is_ok_and(|value| value.trim() == "1")
}

fn failed(doing: &str) -> impl Fn(rtnetlink::Error) -> DatapathError {
    move |error| match error {
        // Its own text repeats the whole message.
        rtnetlink::Error::NetlinkError(message) => DatapathError::system(doing, message.to_io()),
        other => DatapathError::system(doing, io::Error::other(other)),
    }
}
