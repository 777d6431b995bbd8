//! What the API needs to know of the kernel's load balancing.

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
    /// At most so many.
    pub limit: usize,
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
    /// The last question about connections.
    pub asked: Mutex<Option<ConnectionsOf>>,
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
}

#[cfg(feature = "memory")]
fn copy<T: Clone>(of: &Mutex<T>) -> T {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
