//! What operators have asked of a cluster, and which address belongs to which VIP: what a backup holds.
//!
//! Not in it: nodes and their leases, who holds what, epochs, voters, join tokens, events, addresses that cool down. Those
//! are of the running cluster, and a backup that brought them back would give an address to a node that lost it since.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::codec::wire_struct;
use crate::name::{Labels, Name};
use crate::node::Weight;
use crate::policy::PolicySpec;
use crate::pool::PoolSpec;
use crate::time::Millis;
use crate::token::{ApiToken, TokenHash};
use crate::vip::VipSpec;

/// A cluster's wishes and allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// Pools, the oldest first.
    pub pools: Vec<SavedPool>,
    /// Policies, by name.
    pub policies: Vec<SavedPolicy>,
    /// VIPs, the oldest first.
    pub vips: Vec<SavedVip>,
    /// Allocations, by address.
    pub allocations: Vec<SavedAllocation>,
    /// What operators have said of nodes, by name.
    pub nodes: Vec<SavedNode>,
    /// API tokens, by hash.
    pub tokens: Vec<SavedToken>,
}

wire_struct!(Backup {
    pools,
    policies,
    vips,
    allocations,
    nodes,
    tokens
});

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPool {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// What was asked.
    pub spec: PoolSpec,
    /// When it was made.
    pub created: Millis,
}

wire_struct!(SavedPool {
    name,
    labels,
    spec,
    created
});

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPolicy {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// What was asked.
    pub spec: PolicySpec,
    /// When it was made.
    pub created: Millis,
}

wire_struct!(SavedPolicy {
    name,
    labels,
    spec,
    created
});

/// A VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedVip {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// What was asked.
    pub spec: VipSpec,
    /// When it was made.
    pub created: Millis,
    /// Its addresses, in its order.
    pub addresses: Vec<IpAddr>,
}

wire_struct!(SavedVip {
    name,
    labels,
    spec,
    created,
    addresses
});

/// The fact that an address belongs to VIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAllocation {
    /// The address.
    pub address: IpAddr,
    /// The pool it came from.
    pub pool: Name,
    /// Since when it is allocated.
    pub since: Millis,
    /// Whose it is, in the order they came: at least one.
    pub vips: Vec<Name>,
}

wire_struct!(SavedAllocation {
    address,
    pool,
    since,
    vips
});

/// What operators have said of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedNode {
    /// Its name.
    pub name: Name,
    /// The labels that were set.
    pub labels: Labels,
    /// Its weight.
    pub weight: Weight,
    /// Whether it is drained.
    pub drained: bool,
}

wire_struct!(SavedNode {
    name,
    labels,
    weight,
    drained
});

/// An API token; its secret is in nobody's hands but its user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedToken {
    /// SHA-256 of its secret.
    pub hash: TokenHash,
    /// What the cluster knows of it.
    pub token: ApiToken,
}

wire_struct!(SavedToken { hash, token });
