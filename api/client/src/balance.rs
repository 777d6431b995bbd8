//! What the asked node's kernel balances.

use std::net::{IpAddr, SocketAddr};

use reqwest::Method;
use vipd_api_types::{
    LbAffinity, LbConnections, LbMaglev, LbServices, LbTrace, MapDump, MapList, Port, Protocol,
};

use crate::{Client, Error};

/// Which connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Of this client.
    pub client: Option<IpAddr>,
    /// To this address.
    pub vip: Option<IpAddr>,
    /// To this port.
    pub port: Option<u16>,
    /// That go to this backend.
    pub backend: Option<IpAddr>,
    /// Of mode `nat`.
    pub nat: bool,
    /// At most so many; the server's own bound without it.
    pub limit: Option<usize>,
}

impl Client {
    /// Services and their backends.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lb_services(&self) -> Result<LbServices, Error> {
        let url = self.url(&["v1", "lb", "services"]);
        self.json(self.request(Method::GET, url)).await
    }

    /// Connections.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lb_connections(&self, filter: &ConnectionFilter) -> Result<LbConnections, Error> {
        let mut url = self.url(&["v1", "lb", "connections"]);
        let pairs = [
            ("client", filter.client.map(|it| it.to_string())),
            ("vip", filter.vip.map(|it| it.to_string())),
            ("port", filter.port.map(|it| it.to_string())),
            ("backend", filter.backend.map(|it| it.to_string())),
            ("nat", filter.nat.then(|| "true".to_owned())),
            ("limit", filter.limit.map(|it| it.to_string())),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, &value);
            }
        }
        self.json(self.request(Method::GET, url)).await
    }

    /// The look-up table of a service.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lb_maglev(&self, address: IpAddr, port: &Port) -> Result<LbMaglev, Error> {
        let mut url = self.url(&["v1", "lb", "maglev"]);
        url.query_pairs_mut()
            .append_pair("address", &address.to_string())
            .append_pair("port", &port.port.to_string())
            .append_pair("protocol", &port.protocol.to_string());
        self.json(self.request(Method::GET, url)).await
    }

    /// Where VIPs with affinity send a client.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lb_affinity(&self, client: IpAddr) -> Result<LbAffinity, Error> {
        let mut url = self.url(&["v1", "lb", "affinity"]);
        url.query_pairs_mut()
            .append_pair("client", &client.to_string());
        self.json(self.request(Method::GET, url)).await
    }

    /// The kernel's maps.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn maps(&self) -> Result<MapList, Error> {
        let url = self.url(&["v1", "maps"]);
        self.json(self.request(Method::GET, url)).await
    }

    /// Elements of one of the kernel's maps: those whose key contains `key`, at most `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn map(
        &self,
        name: &str,
        key: Option<&str>,
        limit: Option<u16>,
    ) -> Result<MapDump, Error> {
        let mut url = self.url(&["v1", "maps", name]);
        let limit = limit.map(|limit| limit.to_string());
        for (name, value) in [("key", key), ("limit", limit.as_deref())] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.json(self.request(Method::GET, url)).await
    }

    /// What the asked node does with a packet from `client` to `to`, of a TCP connection that is `established` or that it
    /// opens.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lb_trace(
        &self,
        client: SocketAddr,
        to: SocketAddr,
        protocol: Protocol,
        established: bool,
    ) -> Result<LbTrace, Error> {
        let mut url = self.url(&["v1", "lb", "trace"]);
        url.query_pairs_mut()
            .append_pair("client", &client.ip().to_string())
            .append_pair("client_port", &client.port().to_string())
            .append_pair("address", &to.ip().to_string())
            .append_pair("port", &to.port().to_string())
            .append_pair("protocol", &protocol.to_string())
            .append_pair("established", &established.to_string());
        self.json(self.request(Method::GET, url)).await
    }
}
