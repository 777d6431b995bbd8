//! Between the words of the daemon and the keys of the maps.

use std::net::IpAddr;

use vipd_datapath_common::{
    AddressKey,
    balance::{Backend, ServiceKey, backend_flags},
};

use super::{
    Frontend, Protocol,
    goal::{Reach, Spot},
};

impl From<Frontend> for ServiceKey {
    fn from(frontend: Frontend) -> Self {
        Self {
            address: AddressKey::from(frontend.address),
            port: frontend.port.to_be_bytes(),
            protocol: frontend.protocol.number(),
            reserved: 0,
        }
    }
}

impl Frontend {
    /// The service of a key; `None` if its protocol is none that is balanced.
    pub(crate) fn of(key: &ServiceKey) -> Option<Self> {
        Some(Self {
            address: IpAddr::from(key.address),
            port: u16::from_be_bytes(key.port),
            protocol: Protocol::of(key.protocol)?,
        })
    }
}

impl Spot {
    /// Whose entry this is.
    pub(crate) fn of(backend: &Backend) -> Self {
        Self {
            address: IpAddr::from(backend.address),
            port: u16::from_be_bytes(backend.port),
        }
    }

    /// Its entry under a number.
    pub(crate) fn entry(self, number: u32, reach: Option<Reach>) -> Backend {
        let local = reach.is_some_and(|reach| reach.local);
        Backend {
            address: AddressKey::from(self.address),
            port: self.port.to_be_bytes(),
            flags: if local { backend_flags::LOCAL } else { 0 },
            ifindex: reach.map_or(0, |reach| reach.ifindex),
            id: number,
            reserved: 0,
        }
    }
}
