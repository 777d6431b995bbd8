//! Backups of what operators have asked for, and which address belongs to which VIP.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Access, Change, Labels, PolicySpec, PoolSpec, VipSpec};

/// The most bytes of a backup as JSON that a restore takes: 64 MiB, so that those of a full cluster fit (140,000 VIPs of two
/// addresses each), if they are written without blanks.
pub const MAX_BACKUP: usize = 64 * 1024 * 1024;

/// The longest that a restore may take until its answer begins: a large one is hundreds of entries of the log, one after
/// another. Whoever asks for one should be that patient.
pub const RESTORE_WITHIN: Duration = Duration::from_secs(120);

/// A backup: answer of `GET /v1/cluster/snapshot`, body of `POST /v1/cluster/restore`. A file that people can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    /// The version of this format.
    #[schema(minimum = 1)]
    pub format: u32,
    /// Identity of the cluster it is of, as 32 hexadecimal digits.
    pub cluster: String,
    /// Log index up to which it reaches.
    pub revision: u64,
    /// When it was taken (RFC 3339).
    #[schema(format = DateTime)]
    pub taken: String,
    /// Version of the vipd that took it.
    pub version: String,
    /// SHA-256 of `content` as JSON without blanks, in the order of the fields, as `sha256:` and 64 hexadecimal digits. A
    /// backup that was changed by hand has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// What is in it.
    pub content: BackupContent,
}

/// What is in a backup. Holders, leases, epochs, members, join tokens and events are not: they are of the running cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupContent {
    /// Pools, the oldest first: of two that overlap the younger one hands out nothing.
    #[serde(default)]
    pub pools: Vec<SavedPool>,
    /// Policies, by name.
    #[serde(default)]
    pub policies: Vec<SavedPolicy>,
    /// VIPs, the oldest first: who waits longer is served first.
    #[serde(default)]
    pub vips: Vec<SavedVip>,
    /// Which address belongs to which VIP, by address.
    #[serde(default)]
    pub allocations: Vec<SavedAllocation>,
    /// What operators have said of nodes.
    #[serde(default)]
    pub nodes: Vec<SavedNode>,
    /// Tokens of the API.
    #[serde(default)]
    pub tokens: Vec<SavedToken>,
}

/// A pool in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedPool {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created: String,
    /// What is wanted.
    pub spec: PoolSpec,
}

/// A policy in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedPolicy {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created: String,
    /// What is wanted.
    pub spec: PolicySpec,
}

/// A VIP in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedVip {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created: String,
    /// What is wanted.
    pub spec: VipSpec,
    /// Its addresses, in its order; each stands in `allocations` too.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

/// The fact that an address belongs to VIPs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedAllocation {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The pool it came from.
    pub pool: String,
    /// Since when (RFC 3339).
    #[schema(format = DateTime)]
    pub since: String,
    /// Whose it is, in the order they came.
    pub vips: Vec<String>,
}

/// What operators have said of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedNode {
    /// Its name.
    pub name: String,
    /// The labels that were set.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// Its weight.
    #[schema(maximum = 100)]
    pub weight: u8,
    /// Whether it is drained.
    pub drained: bool,
}

/// A token of the API. The secret is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub access: Access,
    /// SHA-256 of the secret, as 64 hexadecimal digits.
    pub sha256: String,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created: String,
    /// Until when it is good (RFC 3339); absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires: Option<String>,
}

/// Answer of `POST /v1/cluster/restore`: what it changed, or would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// Whether it was only tried.
    pub dry_run: bool,
    /// Pools.
    pub pools: Differences,
    /// Policies.
    pub policies: Differences,
    /// VIPs, by what they ask for.
    pub vips: Differences,
    /// Nodes, by what operators have said of them.
    pub nodes: Differences,
    /// Tokens.
    pub tokens: Differences,
    /// Nodes of which the backup says something, and that are not here.
    pub absent_nodes: Vec<String>,
    /// What becomes of addresses.
    pub changes: Vec<Change>,
}

/// Names of what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Differences {
    /// Made.
    pub added: Vec<String>,
    /// Changed.
    pub changed: Vec<String>,
    /// Deleted.
    pub removed: Vec<String>,
}
