//! Policies: which VIPs may be announced from which nodes, on which interfaces.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Labels, Selector};

/// A policy. A VIP that no policy selects may be held by any node; one that policies select may be held where at
/// least one of them allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
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
    pub spec: PolicySpec,
    /// What is so.
    pub status: PolicyStatus,
}

/// What a user says about a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySpec {
    /// The VIPs it is about; all when empty.
    #[serde(default)]
    pub vip_selector: Selector,
    /// The nodes that may hold them; all when empty.
    #[serde(default)]
    pub node_selector: Selector,
    /// Regular expressions over the names of the interfaces that they may be announced on, not anchored; all
    /// interfaces when there is none.
    #[serde(default)]
    pub interfaces: Vec<String>,
}

/// What is so with a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyStatus {
    /// The VIPs that it selects now.
    pub vips: Vec<String>,
    /// The nodes that it selects now and that have an interface it allows, up or not.
    pub nodes: Vec<String>,
}

/// Body of a create or replace. `status`, `generation` and `revision` are ignored, so that what was
/// read can be written back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyWrite {
    /// Name; in a PUT it may be left out and otherwise must be that of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// What is wanted.
    #[serde(default)]
    pub spec: PolicySpec,
}
