//! Events: every change of holder, allocation, health and membership, with its cause.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number in the cluster; grows by one with each event.
    pub seq: u64,
    /// Log index of the entry that made it happen.
    pub revision: u64,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub at: String,
    /// What sort of thing.
    pub kind: EventKind,
    /// The object it happened to, for example `vip/www`.
    pub object: String,
    /// One line for people: what, and why.
    pub message: String,
    /// Who asked for what made it happen: `uid/1000` for a process on `via`, `token/ci` for whoever has that token; absent
    /// when nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// Sort of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An address has a new holder, or none.
    Holder,
    /// An address was allocated, shared or released; or a VIP waits for one, or waits no more.
    Allocation,
    /// A pool, policy or VIP was made, changed, moved or deleted; balance was asked for.
    Object,
    /// A node went up or down, was drained or undrained.
    Node,
    /// A backend of a VIP went down or came up.
    Health,
    /// A node noticed something wrong: another host claims its address, its programs were taken off, its clock jumped.
    Warning,
    /// A node joined, was removed, or gained or lost its vote.
    Membership,
    /// A token was made or revoked, or somebody asked for what his does not allow.
    Access,
}
