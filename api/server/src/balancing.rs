//! What the API needs to know of the kernel's load balancing.

#[cfg(feature = "memory")]
use std::collections::BTreeMap;
use std::net::IpAddr;
#[cfg(feature = "memory")]
use std::sync::{Mutex, PoisonError};

use vipd_api_types as wire;

use crate::control::ControlError;

/// The port of a VIP's address that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAt {
    /// The address.
    pub address: IpAddr,
    /// The port; 0 is the service of all ports.
    pub port: u16,
    /// The protocol.
    pub protocol: wire::Protocol,
}

/// Which connections are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionsOf {
    /// Of this client.
    pub client: Option<IpAddr>,
    /// To this VIP's address.
    pub vip: Option<IpAddr>,
    /// To this port of it.
    pub port: Option<u16>,
    /// That go to this backend.
    pub backend: Option<IpAddr>,
    /// Of mode `nat`.
    pub nat: bool,
    /// At most so many.
    pub limit: usize,
}

/// A packet of a client, as it would come to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketOf {
    /// The client's address and port.
    pub client: (IpAddr, u16),
    /// Where it goes.
    pub to: ServiceAt,
    /// TCP: it opens a connection.
    pub opens: bool,
}

/// Looks into the kernel. Reading a million connections takes a third of a second: not on a thread that answers.
pub trait Balancing: Send + Sync {
    /// All services. Names of VIPs, and whether the addresses are held, are for the caller to fill in.
    ///
    /// # Errors
    /// If the kernel can't be read.
    fn services(&self) -> Result<Vec<wire::LbService>, ControlError>;

    /// Connections, and how many there are.
    ///
    /// # Errors
    /// If the kernel can't be read.
    fn connections(&self, of: &ConnectionsOf) -> Result<wire::LbConnections, ControlError>;

    /// The look-up table of a service; the digest is for the caller to work out. `None` if there is no such service.
    ///
    /// # Errors
    /// If the kernel can't be read.
    fn maglev(&self, of: &ServiceAt) -> Result<Option<wire::LbMaglev>, ControlError>;

    /// Where services with affinity send a client. Names of VIPs are for the caller to fill in.
    ///
    /// # Errors
    /// If the kernel can't be read.
    fn affinity(&self, client: IpAddr) -> Result<Vec<wire::LbAffine>, ControlError>;

    /// The maps that the daemon and its programs share.
    ///
    /// # Errors
    /// If one of them can't be opened.
    fn maps(&self) -> Result<Vec<wire::MapInfo>, ControlError>;

    /// Elements of a map, at most `limit`; only those whose key contains `key`, if one is given. `None` if there is no such map,
    /// or one that can't be read. The node's name is for the caller to fill in.
    ///
    /// # Errors
    /// If the kernel can't be read.
    fn map(
        &self,
        name: &str,
        key: Option<&str>,
        limit: usize,
    ) -> Result<Option<wire::MapDump>, ControlError>;

    /// What the programs do with a packet, by having them do it. The node's name is for the caller to fill in.
    ///
    /// # Errors
    /// If the programs can't be run.
    fn trace(&self, packet: &PacketOf) -> Result<wire::LbTrace, ControlError>;
}

/// Answers for tests: what was put in comes out.
#[cfg(feature = "memory")]
#[derive(Default)]
pub struct Canned {
    /// The services.
    pub services: Mutex<Vec<wire::LbService>>,
    /// The connections.
    pub connections: Mutex<wire::LbConnections>,
    /// The table of every service.
    pub table: Mutex<Option<wire::LbMaglev>>,
    /// Where every client is sent.
    pub affine: Mutex<Vec<wire::LbAffine>>,
    /// The maps, by name.
    pub maps: Mutex<BTreeMap<String, wire::MapDump>>,
    /// The last question about connections.
    pub asked: Mutex<Option<ConnectionsOf>>,
    /// The last packet asked about; it goes up the stack.
    pub traced: Mutex<Option<PacketOf>>,
}

#[cfg(feature = "memory")]
impl Balancing for Canned {
    fn services(&self) -> Result<Vec<wire::LbService>, ControlError> {
        Ok(copy(&self.services))
    }

    fn connections(&self, of: &ConnectionsOf) -> Result<wire::LbConnections, ControlError> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(*of);
        Ok(copy(&self.connections))
    }

    fn maglev(&self, _: &ServiceAt) -> Result<Option<wire::LbMaglev>, ControlError> {
        Ok(copy(&self.table))
    }

    fn affinity(&self, _: IpAddr) -> Result<Vec<wire::LbAffine>, ControlError> {
        Ok(copy(&self.affine))
    }

    fn maps(&self) -> Result<Vec<wire::MapInfo>, ControlError> {
        let info = |name: String| wire::MapInfo {
            name,
            kind: "hash".to_owned(),
            key_size: 16,
            value_size: 40,
            max_entries: 65_536,
        };
        Ok(copy(&self.maps).into_keys().map(info).collect())
    }

    fn map(
        &self,
        name: &str,
        key: Option<&str>,
        limit: usize,
    ) -> Result<Option<wire::MapDump>, ControlError> {
        let mut found = copy(&self.maps).remove(name);
        if let Some(map) = &mut found {
            map.items
                .retain(|it| key.is_none_or(|key| it.key.contains(key)));
            map.more = map.items.len() > limit;
            map.items.truncate(limit);
        }
        Ok(found)
    }

    fn trace(&self, packet: &PacketOf) -> Result<wire::LbTrace, ControlError> {
        *self.traced.lock().unwrap_or_else(PoisonError::into_inner) = Some(*packet);
        let end = |(address, port)| wire::LbEnd { address, port };
        Ok(wire::LbTrace {
            node: String::new(),
            verdict: wire::LbVerdict::Passed,
            known: false,
            service: None,
            backend: None,
            affinity: false,
            source: end(packet.client),
            destination: end((packet.to.address, packet.to.port)),
            outer: None,
            reason: None,
        })
    }
}

#[cfg(feature = "memory")]
fn copy<T: Clone>(of: &Mutex<T>) -> T {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
