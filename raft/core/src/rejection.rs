//! Rejections: why a command changed nothing, in the operator's words, with the next step.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::codec::wire_enum;
use crate::id::{Epoch, NodeId, Revision};
use crate::name::Name;
use crate::sharing::Incompatible;
use crate::time::Millis;

/// Why a command was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No object of that kind and name.
    NotFound {
        /// `pool`, `VIP`, `node`, `token`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object exists already.
    Exists {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object was changed by somebody else.
    Stale {
        /// Its name.
        name: Name,
        /// Its revision now.
        now: Option<Revision>,
    },
    /// The spec is no good; why.
    Invalid {
        /// What is wrong with what.
        why: String,
    },
    /// Two blocks share addresses.
    Overlap {
        /// The block asked for.
        block: String,
        /// The block it overlaps.
        other: String,
        /// The pool of that block.
        pool: Name,
    },
    /// A pool's change would strand live allocations.
    InUse {
        /// The pool.
        pool: Name,
        /// Some of them, with their VIPs.
        allocations: Vec<(IpAddr, Name)>,
        /// How many in all.
        count: u64,
    },
    /// A requested address is in no pool, or not in the one named.
    NotInAnyPool {
        /// The address.
        address: IpAddr,
        /// The pool named, if one was.
        pool: Option<Name>,
    },
    /// A requested address belongs to another VIP.
    AlreadyAllocated {
        /// The address.
        address: IpAddr,
        /// Who has it.
        vip: Name,
    },
    /// A requested address is a block's first or last, which its pool keeps.
    Reserved {
        /// The address.
        address: IpAddr,
        /// The pool.
        pool: Name,
    },
    /// The pool is disabled.
    PoolDisabled {
        /// The pool.
        pool: Name,
    },
    /// No pool can serve the family.
    NoPool {
        /// `ipv4` or `ipv6`.
        family: String,
        /// The pool named, if one was.
        pool: Option<Name>,
    },
    /// Every pool that could serve the family is exhausted.
    OutOfIps {
        /// `ipv4` or `ipv6`.
        family: String,
        /// The first of the pools tried. This is kept with each VIP that waits.
        pools: Vec<Name>,
        /// How many others were.
        more: u64,
    },
    /// A node cannot take a VIP.
    CannotHold {
        /// The node.
        node: Name,
        /// Why.
        why: String,
    },
    /// The join token is not known.
    TokenUnknown,
    /// The join token has expired.
    TokenExpired,
    /// The join token is used up.
    TokenUsedUp,
    /// A report about a lease that is over.
    StaleLease {
        /// The node.
        node: NodeId,
        /// The epoch named.
        epoch: Epoch,
        /// The node's epoch.
        now: Epoch,
    },
    /// The node cannot be removed yet.
    NodeBusy {
        /// The node.
        node: Name,
        /// Why.
        why: String,
    },
    /// The cluster exists already.
    AlreadyBootstrapped,
    /// A requested address is a node's own.
    HostAddress {
        /// The address.
        address: IpAddr,
        /// The node that has it.
        node: Name,
    },
    /// The pool overlaps an older one, and hands out nothing until that ends.
    PoolConflicting {
        /// The pool.
        pool: Name,
    },
    /// No pool that could serve it selects the VIP.
    PoolSelectorMismatch {
        /// The pool named or that has the address, if there is one.
        pool: Option<Name>,
    },
    /// A requested address belongs to a VIP that this one may not share with.
    Incompatible {
        /// The address.
        address: IpAddr,
        /// Who has it.
        vip: Name,
        /// The rule that says so.
        rule: Incompatible,
    },
    /// A requested address was freed a short while ago.
    Cooling {
        /// The address.
        address: IpAddr,
        /// When it may be given again.
        until: Millis,
    },
    /// A lease was judged over by voters that have changed since.
    VotersChanged {
        /// The membership entry it was judged by.
        judged: u64,
        /// The newest one.
        now: u64,
    },
    /// An address is on its way to another node, which may be serving it already.
    OnItsWay {
        /// The address.
        address: IpAddr,
        /// That node.
        to: Name,
    },
    /// Whoever asked did so with a token that was revoked before the command came to be decided.
    Revoked {
        /// The token's name.
        token: Name,
    },
    /// The same key was sent with another request.
    KeyReused,
    /// There is no room in the state for what is asked.
    StateFull {
        /// What is there, in bytes.
        size: u64,
        /// How much there may be.
        most: u64,
    },
}

wire_enum!(Rejection {
    0 => NotFound { kind, name },
    1 => Exists { kind, name },
    2 => Stale { name, now },
    3 => Invalid { why },
    4 => Overlap { block, other, pool },
    5 => InUse { pool, allocations, count },
    6 => NotInAnyPool { address, pool },
    7 => AlreadyAllocated { address, vip },
    8 => Reserved { address, pool },
    9 => PoolDisabled { pool },
    10 => NoPool { family, pool },
    11 => OutOfIps { family, pools, more },
    12 => CannotHold { node, why },
    13 => TokenUnknown,
    14 => TokenExpired,
    15 => TokenUsedUp,
    16 => StaleLease { node, epoch, now },
    17 => NodeBusy { node, why },
    18 => AlreadyBootstrapped,
    19 => VotersChanged { judged, now },
    20 => HostAddress { address, node },
    21 => OnItsWay { address, to },
    22 => PoolConflicting { pool },
    23 => PoolSelectorMismatch { pool },
    24 => Incompatible { address, vip, rule },
    25 => Cooling { address, until },
    26 => Revoked { token },
    27 => KeyReused,
    28 => StateFull { size, most },
});

impl Rejection {
    /// The stable, machine-readable reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Exists { .. } => "already_exists",
            Self::Stale { .. } => "revision_mismatch",
            Self::Invalid { .. } => "invalid",
            Self::Overlap { .. } => "overlap",
            Self::InUse { .. } => "pool_in_use",
            Self::NotInAnyPool { .. } => "not_in_any_pool",
            Self::AlreadyAllocated { .. } => "already_allocated",
            Self::Reserved { .. } => "reserved",
            Self::PoolDisabled { .. } => "pool_disabled",
            Self::NoPool { .. } => "no_pool",
            Self::OutOfIps { .. } => "out_of_ips",
            Self::CannotHold { .. } => "cannot_hold",
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenUsedUp => "token_used_up",
            Self::StaleLease { .. } => "stale_lease",
            Self::NodeBusy { .. } => "node_busy",
            Self::AlreadyBootstrapped => "already_bootstrapped",
            Self::VotersChanged { .. } => "voters_changed",
            Self::HostAddress { .. } => "host_address",
            Self::OnItsWay { .. } => "on_its_way",
            Self::PoolConflicting { .. } => "pool_conflicting",
            Self::PoolSelectorMismatch { .. } => "pool_selector_mismatch",
            Self::Incompatible { .. } => "already_allocated_incompatible",
            Self::Cooling { .. } => "cooling_down",
            Self::Revoked { .. } => "token_revoked",
            Self::KeyReused => "idempotency_mismatch",
            Self::StateFull { .. } => "state_full",
        }
    }

    /// What to do next, one line.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::NotFound { kind, .. } => match kind.as_str() {
                "pool" => "see what there is: vipctl pool list",
                "VIP" => "see what there is: vipctl vip list",
                "policy" => "see what there is: vipctl policy list",
                "node" => "see what there is: vipctl node list",
                "token" => "see what there is: vipctl token list",
                _ => "see what there is: vipctl status",
            },
            Self::Exists { kind, .. } => match kind.as_str() {
                "node" => {
                    "give it another (--name); if it replaces that node, take that one out first: vipctl cluster remove"
                }
                "peer address of node" => {
                    "listen elsewhere (--listen); if it replaces that node, take that one out first: vipctl cluster remove"
                }
                _ => "choose another name, or replace it with apply",
            },
            Self::Stale { .. } => "read it again and repeat the change on what it is now",
            Self::Invalid { .. } => "correct the spec and send it again",
            Self::Overlap { .. } => "cut one of the two blocks so that they share no address",
            Self::InUse { .. } => "delete or change those VIPs first: vipctl vip list",
            Self::NotInAnyPool { .. } => "choose an address of a pool: vipctl pool list",
            Self::AlreadyAllocated { .. } => {
                "choose another address, or delete the VIP that has it"
            }
            Self::Reserved { .. } => "choose another address, or set allow_first_last on the pool",
            Self::PoolDisabled { .. } => "enable the pool, or name another",
            Self::NoPool { .. } => "make a pool with a block of that family: vipctl pool create",
            Self::OutOfIps { .. } => "add a block to a pool, or free addresses: vipctl pool list",
            Self::CannotHold { .. } => "choose another node: vipctl node list",
            Self::TokenUnknown | Self::TokenExpired | Self::TokenUsedUp => {
                "`vipd token` on a voter makes another"
            }
            Self::StaleLease { .. } => "nothing to do: the node has a newer lease",
            Self::NodeBusy { .. } => "drain and stop it, and remove it from the voters first",
            Self::AlreadyBootstrapped => "join the cluster instead: vipd join",
            Self::VotersChanged { .. } => "nothing to do: it is judged again",
            Self::PoolConflicting { .. } => "end the overlap: vipctl pool get shows it",
            Self::PoolSelectorMismatch { .. } => {
                "change the VIP's labels, or the pool's selector: vipctl pool list"
            }
            Self::Incompatible { .. } => "choose another address, or make the two compatible",
            Self::Cooling { .. } => "nothing to do: it waits, or choose another address",
            Self::Revoked { .. } => "use another token: vipctl token create",
            Self::KeyReused => {
                "send another key with another request, and the same request with the same key"
            }
            Self::StateFull { .. } => {
                "delete VIPs, pools or policies that nobody needs, or give them fewer labels; then ask again"
            }
            Self::HostAddress { .. } => {
                "choose another address, and keep hosts' own addresses out of pools"
            }
            Self::OnItsWay { .. } => "ask again when it is there, in a moment: vipctl vip list",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { kind, name } => write!(f, "no {kind} named {name}"),
            Self::Exists { kind, name } => write!(f, "{kind} {name} exists already"),
            Self::Stale {
                name,
                now: Some(now),
            } => write!(f, "{name} has changed: it is at revision {now}"),
            Self::Stale { name, now: None } => write!(f, "{name} no longer exists"),
            Self::Invalid { why } => f.write_str(why),
            Self::Overlap { block, other, pool } => {
                write!(f, "block {block} overlaps block {other} of pool {pool}")
            }
            Self::InUse {
                pool,
                allocations,
                count,
            } => {
                write!(
                    f,
                    "pool {pool} has {count} live allocations that this would strand:"
                )?;
                for (address, vip) in allocations {
                    write!(f, " {address} ({vip})")?;
                }
                if (allocations.len() as u64) < *count {
                    f.write_str(" ...")
                } else {
                    Ok(())
                }
            }
            Self::NotInAnyPool {
                address,
                pool: Some(pool),
            } => write!(f, "address {address} is not in pool {pool}"),
            Self::NotInAnyPool {
                address,
                pool: None,
            } => write!(f, "address {address} is in no pool"),
            Self::AlreadyAllocated { address, vip } => {
                write!(f, "address {address} belongs to VIP {vip}")
            }
            Self::Reserved { address, pool } => {
                write!(
                    f,
                    "address {address} is the first or last of a block of pool {pool}, which keeps those"
                )
            }
            Self::PoolDisabled { pool } => write!(f, "pool {pool} is disabled"),
            Self::NoPool {
                family,
                pool: Some(pool),
            } => write!(f, "no pool named {pool} has an {family} block"),
            Self::NoPool { family, pool: None } => {
                write!(f, "no pool hands out {family} addresses")
            }
            Self::OutOfIps {
                family,
                pools,
                more,
            } => {
                write!(f, "no free {family} address in pool")?;
                for (i, pool) in pools.iter().enumerate() {
                    write!(f, "{} {pool}", if i == 0 { "" } else { "," })?;
                }
                match more {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::CannotHold { node, why } => write!(f, "node {node} cannot hold it: {why}"),
            Self::TokenUnknown => f.write_str("the join token is not known to this cluster"),
            Self::TokenExpired => f.write_str("the join token has expired"),
            Self::TokenUsedUp => f.write_str("the join token is used up"),
            Self::StaleLease { node, epoch, now } => {
                write!(f, "node {node} is at epoch {now}, not {epoch}")
            }
            Self::NodeBusy { node, why } => write!(f, "node {node} cannot be removed: {why}"),
            Self::AlreadyBootstrapped => f.write_str("this cluster exists already"),
            Self::HostAddress { address, node } => {
                write!(f, "address {address} is node {node}'s own")
            }
            Self::OnItsWay { address, to } => {
                write!(f, "address {address} is just moving to node {to}")
            }
            Self::Revoked { token } => write!(f, "token {token} was just revoked"),
            Self::KeyReused => write!(f, "the idempotency key was sent with another request"),
            Self::StateFull { size, most } => write!(
                f,
                "the cluster is full: its objects and their addresses take {size} of {most} bytes"
            ),
            Self::PoolConflicting { pool } => {
                write!(f, "pool {pool} overlaps an older pool")
            }
            Self::PoolSelectorMismatch { pool: Some(pool) } => {
                write!(f, "the selector of pool {pool} does not select this VIP")
            }
            Self::PoolSelectorMismatch { pool: None } => {
                f.write_str("no pool's selector selects this VIP")
            }
            Self::Incompatible { address, vip, rule } => {
                write!(f, "address {address} belongs to VIP {vip}: {rule}")
            }
            Self::Cooling { address, .. } => {
                write!(f, "address {address} was freed a short while ago")
            }
            Self::VotersChanged { judged, now } => {
                write!(f, "the voters changed at entry {now}, after entry {judged}")
            }
        }
    }
}

impl core::error::Error for Rejection {}
