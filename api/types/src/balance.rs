//! What a node's kernel balances at this moment: services, connections, look-up tables.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ClientAddress, Dispatch, Mode, Protocol};

/// What the answering node balances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbServices {
    /// Name of the answering node.
    pub node: String,
    /// The services, by address and port.
    pub items: Vec<LbService>,
}

/// A port of a VIP's address, as the answering node's kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbService {
    /// The VIP; absent for one that is just gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// The address that clients talk to.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port; 0 is each port that has no service of its own.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// How packets go on.
    pub mode: Mode,
    /// How they travel to the backends; in mode `dsr` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<Dispatch>,
    /// Whom they see as the client; in mode `nat` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// Whether this node holds the address, and so is the one that balances it now.
    pub held: bool,
    /// Counted here for all of its backends, and outside them.
    pub traffic: LbTraffic,
    /// Its backends.
    pub backends: Vec<LbBackend>,
}

/// A backend of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbBackend {
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port that packets are sent to; 0 is the one that they came for.
    pub port: u16,
    /// Slots of the look-up table that lead to it.
    pub slots: u32,
    /// The same in hundredths of a percent of the table.
    pub share: u32,
    /// Whether it is the answering node.
    pub local: bool,
    /// Why nothing new goes there although it has a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Counted here for it in this service.
    pub traffic: LbTraffic,
}

/// What was counted since the programs were put in place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbTraffic {
    /// Connections, and UDP exchanges, that began.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Their bytes, with Ethernet headers.
    pub bytes_in: u64,
    /// Packets to clients; none in mode `dsr`, where they do not come by.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Connections that the answering node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbConnections {
    /// Name of the answering node.
    pub node: String,
    /// Some of those that match, in no order.
    pub items: Vec<LbConnection>,
    /// How many match.
    pub matching: u64,
    /// How many there are.
    pub known: u64,
}

/// A connection, or an exchange in UDP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbConnection {
    /// The client.
    pub client: LbEnd,
    /// What it talks to.
    pub vip: LbEnd,
    /// The protocol.
    pub protocol: Protocol,
    /// Where that goes.
    pub backend: LbEnd,
    /// Whom the backend sees; absent where that is the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<LbEnd>,
    /// How packets go on.
    pub mode: Mode,
    /// `opening`, `open`, `half_closed`, `closing`; in UDP `question` or `stream`.
    pub state: String,
    /// Milliseconds since the last packet.
    pub idle_ms: u64,
    /// Milliseconds after which it is forgotten, if no packet comes.
    pub left_ms: u64,
    /// Packets from the client.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets to the client; none in mode `dsr`.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

/// Where VIPs with affinity `client` send a client, by what the answering node knows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbAffinity {
    /// Name of the answering node.
    pub node: String,
    /// One for each port of each such address of the client's family. Port 0 only where the client is kept: else the port decides, too.
    pub items: Vec<LbAffine>,
}

/// Where one service sends a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbAffine {
    /// The VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Where the client's connections go; absent while nobody takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<LbEnd>,
    /// For how many milliseconds it is kept there, if it does not come back; absent where the table alone leads it there, since it
    /// was not here within the VIP's `affinity_timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbEnd {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// The look-up table of a service: alike on every node that has the same backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbMaglev {
    /// Name of the answering node.
    pub node: String,
    /// The table's number in that node's kernel.
    pub table: u32,
    /// SHA-256 over what each slot leads to, in hexadecimal: two nodes choose alike if it is the same.
    pub digest: String,
    /// The backends that are in it, with how many slots lead to each.
    pub backends: Vec<LbShare>,
    /// For each slot the place in `backends`; null for one that leads nowhere.
    pub slots: Vec<Option<u16>>,
}

/// A backend in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbShare {
    /// The backend.
    pub backend: LbEnd,
    /// Slots that lead to it.
    pub slots: u32,
}

/// What the answering node does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbTrace {
    /// Name of the answering node.
    pub node: String,
    /// What becomes of it.
    pub verdict: LbVerdict,
    /// Whether it belongs to a connection that the node knows.
    pub known: bool,
    /// The service that its address and port belong to, such as `tcp/80`; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend of its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<LbEnd>,
    /// It goes to that backend since its client was there: within the VIP's `affinity_timeout`, if it begins a connection. Else the table
    /// says so, or the connection is known.
    #[serde(default)]
    pub affinity: bool,
    /// Where it comes from when it goes on.
    pub source: LbEnd,
    /// Where it goes to.
    pub destination: LbEnd,
    /// The packet that it goes inside of; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<LbOuter>,
    /// Why it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The packet inside of which another one travels to its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LbOuter {
    /// Of which kind.
    pub dispatch: Dispatch,
    /// The answering node's own address.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// The backend's.
    #[schema(value_type = String)]
    pub destination: IpAddr,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LbVerdict {
    /// It goes up the node's own stack.
    Passed,
    /// It is dropped.
    Dropped,
    /// It is sent to a backend.
    Sent,
    /// It is handed on to the next holder, in a planned move.
    HandedOn,
}
