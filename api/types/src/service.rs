//! How a VIP is served: its ports and its backends, and their short forms on the command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the holder serves a VIP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The address is put on the holder's interface; programs on the holder serve it.
    #[default]
    Local,
    /// The holder spreads connections over the backends and rewrites their packets both ways; answers come back through it.
    Nat,
    /// The holder spreads connections over backends, which get packets as they are, by `dispatch`. They have the address too,
    /// on a device that does not answer ARP, and answer clients by themselves.
    Dsr,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Nat => "nat",
            Self::Dsr => "dsr",
        })
    }
}

/// How packets travel to a backend of mode `dsr`, which gets them as clients sent them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dispatch {
    /// To its MAC: it is on a link of the holder.
    #[default]
    L2,
    /// Inside a packet of IP in IP (protocols 4 and 41): it may be behind routers.
    Ipip,
    /// The same inside UDP, by GUE to port 6080, which routers spread over several paths.
    Gue,
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        })
    }
}

/// Whom the backends of mode `nat` see as the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAddress {
    /// The VIP: whatever their routes, their answers come back to the holder.
    #[default]
    Vip,
    /// The client itself. Their way to clients must lead through the holder: by a VIP of the same `group` as their default
    /// gateway. Clients on a backend's own link are seen as the VIP all the same, since it would answer them past the holder.
    Keep,
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vip => "vip",
            Self::Keep => "keep",
        })
    }
}

/// Which nodes a VIP may be on, and which backends its holder uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficPolicy {
    /// Any node; all backends.
    #[default]
    Cluster,
    /// Nodes that have a backend of their own (by its `node`, or by its address); that one alone, which sees the clients'
    /// addresses.
    Local,
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Local => "local",
        })
    }
}

/// What connections go to one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Each goes where its address and port lead.
    #[default]
    None,
    /// All of a client's address: where its last one within `affinity_timeout` went, as long as that backend takes new connections,
    /// however the others change.
    Client,
}

/// A port that a VIP claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    /// What people call it; no two ports of a VIP have the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub name: Option<String>,
    /// The port; 0 is all ports of the protocol.
    #[schema(minimum = 0, maximum = 65535)]
    pub port: u16,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port on the backends, in mode `nat`; the port itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub target_port: Option<u16>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The short form of the command line: `tcp/443`, or `tcp/443=8443` with its target port.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)?;
        match self.target_port {
            Some(target) => write!(f, "={target}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no port such as tcp/443, tcp/80=8080 (8080 on the backends) or udp/0 (all ports)"
            )
        };
        let (protocol, ports) = text.split_once('/').ok_or_else(bad)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad()),
        };
        let (port, target) = match ports.split_once('=') {
            Some((port, target)) => (port, Some(target)),
            None => (ports, None),
        };
        let number = |text: &str| text.parse::<u16>().map_err(|_| bad());
        let target_port = target.map(number).transpose()?;
        if target_port == Some(0) {
            return Err(bad());
        }
        Ok(Self {
            name: None,
            port: number(port)?,
            protocol,
            target_port,
        })
    }
}

/// A host that serves what comes to a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// Its address. It serves the VIP's addresses of its own family. A loopback address (mode `nat`, TCP) is that of whichever node
    /// holds the VIP, and serves at the ports that the node's `vipd.toml` names.
    pub address: String,
    /// Its port, in mode `nat`; what the VIP's port says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// How many new connections it gets relative to the others. At 0 it drains: what it has it keeps, and nothing new comes.
    #[serde(default = "one")]
    #[schema(minimum = 0, maximum = 256, default = 1)]
    pub weight: u16,
    /// Name of the node it runs on, if it runs on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

fn one() -> u16 {
    1
}

/// The short form of the command line: `10.0.0.5`, `10.0.0.5:8080`, `[fd00::5]:8080`, and behind it what is not so by
/// itself: `,weight=2,node=n1`.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.address.contains(':') => write!(f, "[{}]:{port}", self.address)?,
            Some(port) => write!(f, "{}:{port}", self.address)?,
            None => f.write_str(&self.address)?,
        }
        if self.weight != one() {
            write!(f, ",weight={}", self.weight)?;
        }
        match &self.node {
            Some(node) => write!(f, ",node={node}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| {
            format!(
                "{what:?} in {text:?}: a backend is ADDRESS or ADDRESS:PORT, and may have ,weight=0..256 and ,node=NAME behind it"
            )
        };
        let mut parts = text.split(',');
        let at = parts.next().unwrap_or_default();
        let (address, port) = match (at.parse::<IpAddr>(), at.parse::<SocketAddr>()) {
            (Ok(address), _) => (address, None),
            (Err(_), Ok(socket)) if socket.port() != 0 => (socket.ip(), Some(socket.port())),
            (Err(_), _) => return Err(bad(at)),
        };
        let mut backend = Self {
            address: address.to_string(),
            port,
            weight: one(),
            node: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("weight", weight)) => {
                    backend.weight = weight.parse().map_err(|_| bad(part))?;
                }
                Some(("node", node)) => backend.node = Some(node.to_owned()),
                Some(_) | None => return Err(bad(part)),
            }
        }
        Ok(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_read_back_as_they_were_written() {
        for text in ["tcp/443", "udp/53", "tcp/80=8080", "udp/0"] {
            assert_eq!(
                text.parse::<Port>().map(|port| port.to_string()),
                Ok(text.into())
            );
        }
        for text in [
            "10.0.0.5",
            "10.0.0.5:8080",
            "fd00::5",
            "[fd00::5]:8080,weight=2",
            "10.0.0.5,weight=0,node=n1",
        ] {
            let shown = text.parse::<Backend>().map(|backend| backend.to_string());
            assert_eq!(shown, Ok(text.into()));
        }
    }

    #[test]
    fn what_is_no_port_or_backend_is_refused_with_what_would_be_one() {
        for bad in [
            "443",
            "sctp/1",
            "tcp/",
            "tcp/65536",
            "tcp/80=",
            "tcp/80=0",
            "tcp/80:81",
        ] {
            let why = bad.parse::<Port>().expect_err(bad);
            assert!(why.contains("tcp/80=8080"), "{why}");
        }
        for bad in [
            "",
            "web",
            "10.0.0.5:0",
            "10.0.0.5:x",
            "10.0.0.5,2",
            "10.0.0.5,weight=x",
            "10.0.0.5,color=red",
            "fd00::5,",
        ] {
            let why = bad.parse::<Backend>().expect_err(bad);
            assert!(why.contains("ADDRESS:PORT"), "{why}");
        }
    }

    #[test]
    fn a_backend_in_json_needs_an_address_only() {
        let backend: Backend = serde_json::from_str(r#"{"address": "10.0.0.5"}"#).expect("JSON");
        assert_eq!(backend, "10.0.0.5".parse::<Backend>().expect("short form"));
    }
}
