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

fn none<T>() -> Option<T> {
    None
}
