//! Pools of addresses.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::{Condition, Duration, Labels, Selector};

/// A pool: blocks of addresses that VIPs are given from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
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
    pub spec: PoolSpec,
    /// What is so.
    pub status: PoolStatus,
}

/// What a user says about a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolSpec {
    /// The addresses, IPv4 and IPv6 in any mix.
    pub blocks: Vec<Block>,
    /// Whether the first and last address of a CIDR block may be handed out.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub allow_first_last: bool,
    /// A disabled pool hands out nothing; what it has handed out stays.
    #[serde(default)]
    pub disabled: bool,
    /// Whether a VIP that names no pool may get its address here.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub auto_assign: bool,
    /// Pools with a lower number are tried first; of equal ones those with a selector, then by name.
    #[serde(default)]
    pub priority: i32,
    /// The VIPs it serves, by their labels, by `vipd/name` or by `vipd/namespace`; all without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// For so long an address that was freed is given to nobody; at most 30 days.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub cooldown: Duration,
    /// Whether a VIP that returns under the same name within that time is given its address again.
    #[serde(default)]
    pub reclaim: bool,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            allow_first_last: true,
            disabled: false,
            auto_assign: true,
            priority: 0,
            selector: None,
            cooldown: Duration(0),
            reclaim: false,
        }
    }
}

/// One run of addresses: `cidr`, or `start` and `stop`, or `start` alone for one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    /// A prefix such as `192.0.2.0/28` or `2001:db8::/120`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// First address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Last address, included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}

impl Block {
    /// Reads the short form of the command line: `10.0.0.0/28`, `10.0.0.1-10.0.0.9` or `10.0.0.1`.
    ///
    /// Nothing is judged here; the server is the one place that does.
    #[must_use]
    pub fn from_short(text: &str) -> Self {
        if text.contains('/') {
            return Self {
                cidr: Some(text.to_owned()),
                ..Self::default()
            };
        }
        match text.split_once('-') {
            Some((start, stop)) => Self {
                start: Some(start.trim().to_owned()),
                stop: Some(stop.trim().to_owned()),
                cidr: None,
            },
            None => Self {
                start: Some(text.to_owned()),
                ..Self::default()
            },
        }
    }

    /// The short form that [`Block::from_short`] reads.
    #[must_use]
    pub fn to_short(&self) -> String {
        match (&self.cidr, &self.start, &self.stop) {
            (Some(cidr), _, _) => cidr.clone(),
            (None, Some(start), Some(stop)) => format!("{start}-{stop}"),
            (None, Some(start), None) => start.clone(),
            (None, None, _) => String::new(),
        }
    }
}

/// What is so with a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// Whether a block overlaps one of an older pool; such a pool hands out nothing.
    pub conflicting: bool,
    /// Counts by address family.
    pub families: FamilyCounts,
    /// What else is worth knowing.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Counts by address family; a family without blocks is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FamilyCounts {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Count>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Count>,
}

/// Exact counts of addresses. IPv6 pools exceed 64 bits, so these are JSON integers of any size (only a pool of
/// all 2^128 IPv6 addresses is said to have one fewer).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How many can ever be handed out.
    #[schema(schema_with = big_integer)]
    pub total: u128,
    /// How many are.
    #[schema(schema_with = big_integer)]
    pub used: u128,
    /// How many are left.
    #[schema(schema_with = big_integer)]
    pub available: u128,
}

/// Body of a create or replace. `status`, `generation` and `revision` are ignored, so that what was
/// read can be written back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolWrite {
    /// Name; in a PUT it may be left out and otherwise must be that of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    #[schema(schema_with = crate::meta::labels)]
    pub labels: Labels,
    /// What is wanted.
    pub spec: PoolSpec,
}

fn yes() -> bool {
    true
}

fn big_integer() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
}
