//! Virtual IPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Affinity, Backend, BackendStatus, ClientAddress, Condition, Dispatch, Duration, Failback,
    HealthCheck, Labels, Mode, Port, TrafficPolicy,
};

/// A VIP: one or more addresses that one node at a time answers for, each on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vip {
    /// Unique name.
    pub name: String,
    /// Labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// Counts the changes of `spec`.
    pub generation: u64,
    /// Log index of the last change; use it in `If-Match`.
    pub revision: u64,
    /// What is wanted.
    pub spec: VipSpec,
    /// What is so.
    pub status: VipStatus,
}

/// What a user says about a VIP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VipSpec {
    /// The pool to take from; without one, any pool that has an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The very addresses wanted; empty for the next free ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Which address families.
    #[serde(default)]
    pub families: Families,
    /// How the holder serves it.
    #[serde(default)]
    pub mode: Mode,
    /// Announce on the interface of this name, even where no subnet of it contains the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// VIPs of the same group are held by one node, which can announce all of them, and move together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// VIPs with the same key are kept on different nodes as long as there are enough of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
    /// Whether it returns to its home after a failover or a drain: `never`, `always`, `after:10s`. A group is as
    /// reluctant as its most reluctant VIP.
    #[serde(default)]
    pub failback: Failback,
    /// The namespace it belongs to: `default` unless it says otherwise. Selectors of pools see it as `vipd/namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// VIPs with the same key may have the same address, as long as they claim different ports, are of one namespace (or
    /// each allows the other's), of one group and on one interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing_key: Option<String>,
    /// Namespaces whose VIPs may share with this one; `*` for all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub sharing_namespaces: BTreeSet<String>,
    /// How packets travel to the backends, in mode `dsr`.
    #[serde(default)]
    pub dispatch: Dispatch,
    /// Whom the backends see as the client, in mode `nat`.
    #[serde(default)]
    pub client_address: ClientAddress,
    /// The ports it claims of its addresses; all of them without any. In modes `nat` and `dsr` those whose connections are
    /// spread over the backends; there it needs one at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub ports: Vec<Port>,
    /// Who serves what comes to these ports, in modes `nat` and `dsr`. Without any it is dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub backends: Vec<Backend>,
    /// Which nodes it may be on, and which backends its holder uses, in modes `nat` and `dsr`.
    #[serde(default)]
    pub traffic_policy: TrafficPolicy,
    /// How the backends are looked after, or in mode `local` its nodes' own programs; not at all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What connections go to one backend, in modes `nat` and `dsr`.
    #[serde(default)]
    pub affinity: Affinity,
    /// How long after its last connection began a client is kept with its backend, with affinity `client`: 1s to 24h, 3h when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_timeout: Option<Duration>,
    /// Networks whose connections are taken, in modes `nat` and `dsr`: `10.0.0.0/8`, `fd00::/8`. Everybody's without any; else
    /// those of a family without any are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub source_ranges: Vec<String>,
}

/// Which address families a VIP is given, where it names no address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Families {
    /// One IPv4 address.
    Ipv4,
    /// One IPv6 address.
    Ipv6,
    /// One of each where the pool has them; one is enough.
    #[default]
    PreferDual,
    /// One of each, or the VIP is unsatisfied.
    RequireDual,
}

/// What is so with a VIP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VipStatus {
    /// The addresses it has been given.
    pub addresses: Vec<VipAddress>,
    /// How its backends are, as the node knows that answers; only its holders, and who would hold it next, look after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendStatus>,
    /// What else is worth knowing.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One address of a VIP and who answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VipAddress {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The pool it came from.
    pub pool: String,
    /// The other VIPs that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<String>,
    /// Name of the node that holds it; absent while no node can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Name of the node that takes over when the holder goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<String>,
    /// Fencing token: grows with each change of holder.
    pub epoch: u64,
    /// Name of the node that it returns to by its `failback`: where it was last placed, moved or rebalanced to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Since when it has this holder (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// The holder's interface that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Whether the kernel answers for it right now; known (and present) only when the answering node
    /// is the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answering: Option<bool>,
    /// Announcements (gratuitous ARP, unsolicited advertisements) that have left the answering node since it first knew the
    /// address; present as `answering` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<u64>,
    /// What else is worth knowing.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Body of a create or replace. `status`, `generation` and `revision` are ignored, so that what was
/// read can be written back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VipWrite {
    /// Name; in a PUT it may be left out and otherwise must be that of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// What is wanted.
    #[serde(default)]
    pub spec: VipSpec,
}

/// Body of `POST /v1/vips/{name}/move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveRequest {
    /// Name of the node that shall hold the VIP.
    pub to: String,
}
