//! One machine: what stays while daemons come and go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::{Interface, Mac, Prefix, Role};

use crate::daemon::Process;
use crate::disk::Disk;
use crate::kernel::Kernel;
use crate::lock;
use crate::net::HostId;
use crate::runtime::Clock;

/// Who a host is in the cluster, from its join on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its number.
    pub(crate) node: NodeId,
    /// Its role.
    pub(crate) role: Role,
    /// The voters it was told of when it joined.
    pub(crate) hints: Vec<(NodeId, SocketAddr)>,
}

/// One machine.
pub(crate) struct Host {
    /// Its place.
    pub(crate) id: HostId,
    /// Its clock.
    pub(crate) clock: Arc<Clock>,
    /// Its disk.
    pub(crate) disk: Arc<Disk>,
    /// Its kernel.
    pub(crate) kernel: Kernel,
    /// Whether it has power.
    pub(crate) powered: AtomicBool,
    /// Whether its VIP interface has carrier.
    pub(crate) carrier: AtomicBool,
    /// Whether it is on the second subnet too.
    pub(crate) second_subnet: bool,
    /// Whether somebody (systemd, here the world) starts its daemon again when it ends.
    pub(crate) wanted: AtomicBool,
    /// Who it is; `None` before it has joined.
    pub(crate) identity: Mutex<Option<Identity>>,
    /// Its daemon, while it runs.
    pub(crate) process: Mutex<Option<Arc<Process>>>,
    /// How many times it has joined.
    pub(crate) joins: Mutex<u32>,
}

impl Host {
    /// Its daemon, while it runs.
    #[must_use]
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        lock(&self.process).clone()
    }

    /// Who it is.
    #[must_use]
    pub(crate) fn identity(&self) -> Option<Identity> {
        lock(&self.identity).clone()
    }

    /// Whether it has power.
    #[must_use]
    pub(crate) fn is_powered(&self) -> bool {
        self.powered.load(Ordering::Relaxed)
    }

    /// Its name in the cluster: another one with each join.
    ///
    /// # Errors
    /// Never, unless names stop to allow letters and digits.
    pub(crate) fn name(&self) -> Result<Name, String> {
        let joins = *lock(&self.joins);
        Name::new(&format!("{}-{joins}", self.id)).map_err(|error| format!("{error:?}"))
    }

    /// Where its peers reach it: another port with each join.
    #[must_use]
    pub(crate) fn peer(&self) -> SocketAddr {
        let port = 7400 + u16::try_from(*lock(&self.joins)).unwrap_or(0);
        SocketAddr::new(address_of(self.id, 77), port)
    }

    /// What it can announce on.
    #[must_use]
    pub(crate) fn interfaces(&self) -> Vec<Interface> {
        let up = self.carrier.load(Ordering::Relaxed);
        let on = |name: &str, net: u8, up: bool| Interface {
            name: name.into(),
            up,
            prefixes: vec![Prefix {
                address: address_of(self.id, net),
                len: 16,
            }],
            mac: mac(self.id, net),
        };
        let mut found = vec![on("eth0", 77, up)];
        if self.second_subnet {
            found.push(on("eth1", 78, true));
        }
        found
    }
}

fn address_of(host: HostId, net: u8) -> IpAddr {
    let n = u16::try_from(host.0 + 1).unwrap_or(u16::MAX);
    let [high, low] = n.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, net, high, low))
}

/// That of a host's interface on a subnet.
fn mac(host: HostId, net: u8) -> Mac {
    let n = u16::try_from(host.0).unwrap_or(u16::MAX);
    let [high, low] = n.to_be_bytes();
    Mac([2, net, 0, 0, high, low])
}

/// That of a host's interface on the subnet on which another host has the MAC `peer`.
#[must_use]
pub(crate) fn mac_of(host: HostId, peer: Mac) -> Mac {
    mac(host, peer.0[1])
}

/// The host that has a MAC.
#[must_use]
pub(crate) fn host_with(mac: Mac) -> HostId {
    let [.., high, low] = mac.0;
    HostId(usize::from(u16::from_be_bytes([high, low])))
}

/// The host that has a peer address.
#[must_use]
pub(crate) fn host_at(peer: SocketAddr) -> HostId {
    match peer.ip() {
        IpAddr::V4(ip) => {
            let [_, _, high, low] = ip.octets();
            HostId(usize::from(u16::from_be_bytes([high, low])).saturating_sub(1))
        }
        IpAddr::V6(_) => HostId(0),
    }
}
