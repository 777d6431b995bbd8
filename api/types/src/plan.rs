//! What a write would do: the answer with `?dry_run=true`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of a write that was only tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRun<T> {
    /// Always true.
    pub dry_run: bool,
    /// The object as it would be; absent when it would be gone.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub object: Option<T>,
    /// Which addresses would be given, taken or moved.
    pub changes: Vec<Change>,
}

/// What would become of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// The VIP it belongs (or belonged) to.
    pub vip: String,
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Name of the node that holds it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Name of the node that would hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What would become of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It would be given to the VIP.
    Allocated,
    /// It would be taken from the VIP.
    Released,
    /// Another node would answer for it.
    Moved,
}

/// Answer of `GET /v1/plan`: what would become of addresses if a node were lost, or drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The node that would hold nothing.
    pub without: String,
    /// Whether it would be drained; else lost without a word.
    pub drained: bool,
    /// Which addresses would move; `to` is absent where no node could take one.
    pub changes: Vec<Change>,
    /// What each node holds, and would hold.
    pub loads: Vec<Load>,
    /// Whether a majority of the voters would be left. Without one nothing is taken over, and every node falls silent.
    pub quorum: bool,
    /// After how many milliseconds the addresses would be answered for again, at most; absent without a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// What that figure is made of, and assumes.
    pub estimate: String,
}

/// How many addresses a node holds, and would hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Load {
    /// The node.
    pub node: String,
    /// Its weight.
    pub weight: u8,
    /// Addresses now.
    pub before: u64,
    /// Addresses then.
    pub after: u64,
}

/// Answer of `POST /v1/cluster/rebalance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebalance {
    /// Whether it was only tried.
    pub dry_run: bool,
    /// Which addresses move.
    pub changes: Vec<Change>,
    /// What each node holds, and will hold.
    pub loads: Vec<Load>,
}

fn none<T>() -> Option<T> {
    None
}
