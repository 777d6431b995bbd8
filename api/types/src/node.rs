//! Nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Condition, Duration, Labels, MemberRole};

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Unique name.
    pub name: String,
    /// Number that is never used again, even after the node was removed.
    pub id: u64,
    /// Log index of the last change.
    pub revision: u64,
    /// What is wanted.
    pub spec: NodeSpec,
    /// What is so.
    pub status: NodeStatus,
}

/// What is wanted of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSpec {
    /// Labels: those of the node's own config, and those that were set here, which win.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// How much it shall hold, relative to the others. A node of 0 keeps what it has and is given nothing new.
    #[serde(default = "full")]
    #[schema(default = 100, maximum = 100)]
    pub weight: u8,
    /// A drained node holds nothing.
    pub drained: bool,
}

fn full() -> u8 {
    100
}

/// Body of `PATCH /v1/nodes/{name}`: a merge patch; what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePatch {
    /// What to change.
    #[serde(default)]
    pub spec: NodeSpecPatch,
}

/// What to change of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSpecPatch {
    /// Labels to set; `null` takes one back that was set, so that what the node's own config says holds again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = crate::meta::patched_labels)]
    pub labels: BTreeMap<String, Option<String>>,
    /// Its weight, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100)]
    pub weight: Option<u8>,
    /// Whether it is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
}

/// What is so with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Whether it votes.
    pub role: MemberRole,
    /// Whether it leads.
    pub leader: bool,
    /// Whether the cluster counts on it: it has begun a lease that has not been withdrawn.
    pub up: bool,
    /// Whether it is shutting down.
    pub retiring: bool,
    /// Its lease to answer for addresses.
    pub lease: Lease,
    /// Age of its last beat as the answering node heard it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
    /// Where its peers reach it.
    pub peer: String,
    /// The interfaces it can announce on.
    pub interfaces: Vec<Interface>,
    /// The addresses it holds.
    #[schema(value_type = Vec<String>)]
    pub held: Vec<IpAddr>,
    /// Version of its daemon.
    pub version: String,
    /// Bounds of its load balancing; known only for the answering node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<BalanceBounds>,
    /// What else is worth knowing.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A node's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Incarnation: the log index that let the node in again.
    pub epoch: u64,
    /// Time left until the kernel goes silent; known only for the answering node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// How much of connections a node remembers, and for how long after their last packet: `[balance]` of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalanceBounds {
    /// Elements of its table of flows, as that is in the kernel; a connection of mode `nat` takes two.
    pub flows: u32,
    /// New flows that all CPUs together may record in a second.
    pub new_flows: u32,
    /// From one look for flows that are over to the next.
    pub collect: Duration,
    /// TCP, while it opens.
    pub tcp_opening: Duration,
    /// TCP, open.
    pub tcp_open: Duration,
    /// TCP, closed by one side.
    pub tcp_half_closed: Duration,
    /// TCP, closed by both, or reset.
    pub tcp_closing: Duration,
    /// UDP, a single packet of the client.
    pub udp_question: Duration,
    /// UDP, more than one.
    pub udp_stream: Duration,
}

/// A network interface of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Its name, for example `eth0`.
    pub name: String,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// Its own addresses there with their prefix length, for example `192.0.2.7/24`.
    pub prefixes: Vec<String>,
    /// Whether XDP sends packets of open connections on there; known only for the answering node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<XdpUse>,
}

/// Whether XDP sends packets of open connections on, in the driver of a network interface. Where it does not, the programs
/// behind it do, as they do with all other packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct XdpUse {
    /// Whether it does.
    pub used: bool,
    /// Why, in words.
    pub why: String,
}
