//! Interfaces and addresses over rtnetlink. Wrapped here, because that crate breaks each minor.

use std::{collections::BTreeMap, fs, io, net::IpAddr};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        address::{
            AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
            AddressScope, CacheInfo,
        },
        link::{InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType},
    },
};
use tokio::task::JoinHandle;

use crate::{
    DatapathError, Interface,
    plan::{Link, Presence},
};

/// The protocol of addresses that vipd adds (`ip address` shows `proto 0x76`). The kernel keeps
/// it since Linux 5.18.
const PROTOCOL: u8 = b'v';
/// Until somebody removes it.
const FOREVER: u32 = u32::MAX;

/// A connection to rtnetlink in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Interfaces and addresses at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) addresses: Vec<(IpAddr, u8, Presence)>,
    /// How often each interface has got its carrier: it tells of a link that was lost and is back.
    pub(crate) carriers: BTreeMap<u32, u32>,
}

impl Netlink {
    pub(crate) fn open() -> Result<Self, DatapathError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| DatapathError::system("open a netlink socket", source))?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Reads all Ethernet interfaces but loopback and ports of others, and the addresses of all interfaces.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        let mut snapshot = Snapshot::default();
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
            snapshot.carriers.insert(message.header.index, carriers);
            snapshot.interfaces.push(Interface {
                name,
                index: message.header.index,
                mac,
                up: message.header.flags.contains(up),
                prefixes: Vec::new(),
            });
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses
            .try_next()
            .await
            .map_err(failed("list addresses"))?
        {
            snapshot.addresses.extend(read(&message));
        }
        Ok(snapshot)
    }

    /// Adds a host address: no route of its own, no duplicate address detection (the cluster has
    /// decided), and IPv6 never as the source that the kernel picks by itself.
    pub(crate) async fn add(&self, address: IpAddr, ifindex: u32) -> Result<Added, DatapathError> {
        let mut request = self.handle.address().add(ifindex, address, width(address));
        *request.message_mut() = message(address, ifindex);
        match request.execute().await {
            Ok(()) => Ok(Added::New),
            Err(error) if is(&error, nix::libc::EEXIST) => Ok(Added::Existed),
            Err(error) => Err(failed(&format!("add {address} to interface {ifindex}"))(
                error,
            )),
        }
    }

    /// Deletes a host address; that it or its interface is gone is fine.
    pub(crate) async fn delete(&self, address: IpAddr, ifindex: u32) -> Result<(), DatapathError> {
        let gone = [nix::libc::EADDRNOTAVAIL, nix::libc::ENODEV];
        match self
            .handle
            .address()
            .del(message(address, ifindex))
            .execute()
            .await
        {
            Err(error) if !gone.iter().any(|errno| is(&error, *errno)) => Err(failed(&format!(
                "delete {address} from interface {ifindex}"
            ))(error)),
            _ => Ok(()),
        }
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

/// Whether an address was added or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Existed,
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

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn message(address: IpAddr, ifindex: u32) -> AddressMessage {
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

/// `IFA_LOCAL` is the address itself; `IFA_ADDRESS` is that of the peer on point-to-point links.
fn read(message: &AddressMessage) -> Option<(IpAddr, u8, Presence)> {
    let (mut local, mut address, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            AddressAttribute::Protocol(value) => ours = u8::from(*value) == PROTOCOL,
            _ => {}
        }
    }
    let presence = Presence {
        ifindex: message.header.index,
        ours,
    };
    Some((local.or(address)?, message.header.prefix_len, presence))
}

fn is(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.to_io().raw_os_error() == Some(errno))
}

fn failed(doing: &str) -> impl Fn(rtnetlink::Error) -> DatapathError {
    move |error| match error {
        // Its own text repeats the whole message.
        rtnetlink::Error::NetlinkError(message) => DatapathError::system(doing, message.to_io()),
        other => DatapathError::system(doing, io::Error::other(other)),
    }
}
