//! Events: what changed and why, in the order of the log.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use crate::asker::Asker;
use crate::codec::{wire_enum, wire_struct};
use crate::id::{Epoch, NodeId, Revision};
use crate::name::Name;
use crate::node::{Role, Weight};
use crate::notice::Notice;
use crate::proof::Claim;
use crate::rejection::Rejection;
use crate::time::Millis;
use crate::token::Access;

/// Why an address changed its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was allocated, or a node became able to hold it.
    Placed,
    /// Its holder's lease was withdrawn.
    NodeDown,
    /// Its holder was drained or is shutting down.
    Drained,
    /// The operator moved it.
    Moved,
    /// Its holder can no longer announce it.
    Ineligible,
    /// Its VIP no longer wants it.
    Freed,
    /// Its home is back, and it fails back.
    FailedBack,
    /// The operator asked for balance.
    Rebalanced,
    /// The rest of its VIP or group is there.
    Grouped,
    /// All backends of its VIP are down, as its holder sees them, and another node has not said so.
    Withdrawn,
}

wire_enum!(Cause {
    0 => Placed,
    1 => NodeDown,
    2 => Drained,
    3 => Moved,
    4 => Ineligible,
    5 => Freed,
    6 => FailedBack,
    7 => Rebalanced,
    8 => Grouped,
    9 => Withdrawn,
});

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Placed => "placed",
            Self::NodeDown => "holder's lease was withdrawn",
            Self::Drained => "holder drained",
            Self::Moved => "moved by the operator",
            Self::Ineligible => "holder can no longer announce it",
            Self::Freed => "no longer wanted by its VIP",
            Self::FailedBack => "back to its home",
            Self::Rebalanced => "rebalanced",
            Self::Grouped => "joins the rest of its group",
            Self::Withdrawn => "holder sees all backends down",
        })
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A pool was made or changed.
    PoolPut {
        /// Which.
        pool: Name,
    },
    /// A pool was deleted.
    PoolDeleted {
        /// Which.
        pool: Name,
    },
    /// A VIP was made or changed.
    VipPut {
        /// Which.
        vip: Name,
    },
    /// A VIP was deleted.
    VipDeleted {
        /// Which.
        vip: Name,
    },
    /// The operator moves a VIP.
    VipMoved {
        /// Which.
        vip: Name,
        /// Where.
        to: Name,
    },
    /// The operator asked for balance.
    Rebalance {
        /// How many addresses move for it.
        moves: u32,
    },
    /// A backup was restored: so many of each are as it says.
    Restored {
        /// Pools.
        pools: u32,
        /// Policies.
        policies: u32,
        /// VIPs.
        vips: u32,
        /// Addresses of theirs.
        addresses: u32,
    },
    /// A token for the API was made.
    TokenMade {
        /// Its name.
        token: Name,
        /// What it allows.
        access: Access,
        /// Until when; `None` for ever.
        expires: Option<Millis>,
    },
    /// A token for the API was revoked.
    TokenRevoked {
        /// Its name.
        token: Name,
    },
    /// A token for joining was made.
    JoinTokenMade {
        /// The role it gives.
        role: Role,
        /// How many nodes may use it.
        uses: u32,
    },
    /// An address was allocated.
    Allocated {
        /// Which.
        address: IpAddr,
        /// To this VIP.
        vip: Name,
    },
    /// An address was freed.
    Freed {
        /// Which.
        address: IpAddr,
        /// Of this VIP.
        vip: Name,
    },
    /// A VIP got an address that another has already.
    Shared {
        /// Which.
        address: IpAddr,
        /// The VIP that came.
        vip: Name,
    },
    /// A VIP left an address to others that have it.
    Unshared {
        /// Which.
        address: IpAddr,
        /// The VIP that left.
        vip: Name,
    },
    /// Somebody outside has an address that is to be announced.
    InUse {
        /// Which.
        address: IpAddr,
        /// Its VIP.
        vip: Name,
        /// The node that heard him.
        node: NodeId,
        /// What it heard.
        claim: Claim,
        /// Whether it is announced all the same.
        announced: bool,
    },
    /// Nobody has an address any more that somebody had.
    NotInUse {
        /// Which.
        address: IpAddr,
        /// Its VIP.
        vip: Name,
    },
    /// An address that was chosen for a VIP and that somebody outside has is set aside, and the VIP is given another.
    SetAside {
        /// Which.
        address: IpAddr,
        /// The VIP that had it.
        vip: Name,
        /// Its pool.
        pool: Name,
    },
    /// A VIP waits for what it asks for.
    Unmet {
        /// Which.
        vip: Name,
        /// Why the first thing it waits for is not given.
        why: Rejection,
    },
    /// A VIP that waited has all it asks for.
    Satisfied {
        /// Which.
        vip: Name,
    },
    /// An address changed its holder.
    HolderChanged {
        /// Which.
        address: IpAddr,
        /// Of this VIP.
        vip: Name,
        /// Who held it.
        from: Option<NodeId>,
        /// Who holds it now.
        to: Option<NodeId>,
        /// The new fencing token.
        epoch: Epoch,
        /// Why.
        cause: Cause,
    },
    /// A node joined.
    NodeJoined {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
    },
    /// A node began a lease.
    NodeUp {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
        /// Of that lease.
        epoch: Epoch,
    },
    /// A node's lease was withdrawn.
    NodeDown {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
        /// Of that lease.
        epoch: Epoch,
    },
    /// A node is shutting down.
    NodeRetiring {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
    },
    /// A node was drained or undrained.
    NodeDrained {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
        /// Drained, else undrained.
        drained: bool,
    },
    /// The operator set a node's labels or weight.
    NodeSet {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
        /// Its weight now.
        weight: Weight,
    },
    /// A policy was made or changed.
    PolicyPut {
        /// Which.
        policy: Name,
    },
    /// A policy was deleted.
    PolicyDeleted {
        /// Which.
        policy: Name,
    },
    /// A node was removed.
    NodeRemoved {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
    },
    /// A node noticed something on its host.
    Noticed {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
        /// The VIP it is about, if it is about one.
        vip: Option<Name>,
        /// What.
        notice: Notice,
    },
    /// An interface of a node went up or down.
    InterfaceChanged {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: Name,
        /// The interface.
        interface: String,
        /// Up, else down or gone.
        up: bool,
    },
    /// The voters changed.
    VotersChanged {
        /// How many voter sets: two while the change is joint.
        sets: u8,
    },
}

wire_enum!(What {
    0 => PoolPut { pool },
    1 => PoolDeleted { pool },
    2 => VipPut { vip },
    3 => VipDeleted { vip },
    4 => Allocated { address, vip },
    5 => Freed { address, vip },
    6 => HolderChanged { address, vip, from, to, epoch, cause },
    7 => NodeJoined { node, name },
    8 => NodeUp { node, name, epoch },
    9 => NodeDown { node, name, epoch },
    10 => NodeRetiring { node, name },
    11 => NodeDrained { node, name, drained },
    12 => NodeRemoved { node, name },
    13 => VotersChanged { sets },
    14 => NodeSet { node, name, weight },
    15 => PolicyPut { policy },
    16 => PolicyDeleted { policy },
    17 => Noticed { node, name, vip, notice },
    18 => InterfaceChanged { node, name, interface, up },
    19 => Shared { address, vip },
    20 => Unshared { address, vip },
    21 => Unmet { vip, why },
    22 => Satisfied { vip },
    23 => VipMoved { vip, to },
    24 => Rebalance { moves },
    25 => TokenMade { token, access, expires },
    26 => TokenRevoked { token },
    27 => JoinTokenMade { role, uses },
    28 => Restored { pools, policies, vips, addresses },
    29 => InUse { address, vip, node, claim, announced },
    30 => NotInUse { address, vip },
    31 => SetAside { address, vip, pool },
});

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number, dense, from 1.
    pub seq: u64,
    /// The entry that caused it.
    pub revision: Revision,
    /// When, by the proposer's clock.
    pub at: Millis,
    /// What happened.
    pub what: What,
    /// Who asked for the entry that caused it; `None` when nobody did.
    pub by: Option<Asker>,
}

wire_struct!(Event {
    seq,
    revision,
    at,
    what,
    by
});

/// A line for people; nodes are shown by number.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoolPut { pool } => write!(f, "pool {pool} set"),
            Self::PoolDeleted { pool } => write!(f, "pool {pool} deleted"),
            Self::VipPut { vip } => write!(f, "VIP {vip} set"),
            Self::VipDeleted { vip } => write!(f, "VIP {vip} deleted"),
            Self::VipMoved { vip, to } => write!(f, "VIP {vip} is to move to node {to}"),
            Self::Rebalance { moves } => write!(f, "balance asked for: {moves} addresses move"),
            Self::TokenMade {
                token,
                access,
                expires,
            } => {
                let how_long = if expires.is_some() { "" } else { ", for ever" };
                write!(f, "token {token} made, allows {access}{how_long}")
            }
            Self::Restored {
                pools,
                policies,
                vips,
                addresses,
            } => write!(
                f,
                "backup restored (pools: {pools}, policies: {policies}, VIPs: {vips}, addresses: {addresses})"
            ),
            Self::TokenRevoked { token } => write!(f, "token {token} revoked"),
            Self::JoinTokenMade { role, uses } => {
                write!(f, "join token made, for {uses} as {role}")
            }
            Self::Allocated { address, vip } => write!(f, "{address} allocated to VIP {vip}"),
            Self::Freed { address, vip } => write!(f, "{address} of VIP {vip} freed"),
            Self::Shared { address, vip } => write!(f, "{address} shared with VIP {vip}"),
            Self::Unshared { address, vip } => {
                write!(f, "{address} no longer shared with VIP {vip}")
            }
            Self::InUse {
                address,
                claim,
                announced,
                ..
            } => {
                let announced = if *announced {
                    "is announced all the same"
                } else {
                    "is not announced"
                };
                write!(
                    f,
                    "another host has {address}, which {announced}: {claim}. Next: take it off that host"
                )
            }
            Self::NotInUse { address, .. } => {
                write!(f, "no other host has {address} any more: it is announced")
            }
            Self::SetAside { address, vip, pool } => write!(
                f,
                "{address} of pool {pool} is set aside for a while, and VIP {vip} is given another"
            ),
            Self::Unmet { vip, why } => write!(f, "VIP {vip} waits: {why}"),
            Self::Satisfied { vip } => write!(f, "VIP {vip} has all it asks for"),
            Self::HolderChanged {
                address,
                vip,
                from,
                to,
                epoch,
                cause,
            } => {
                write!(f, "{address} of VIP {vip}: ")?;
                match (from, to) {
                    (Some(from), Some(to)) => write!(f, "node {from} -> node {to}")?,
                    (None, Some(to)) => write!(f, "node {to}")?,
                    (Some(from), None) => write!(f, "node {from} -> nobody")?,
                    (None, None) => write!(f, "nobody")?,
                }
                write!(f, ", epoch {epoch} ({cause})")
            }
            Self::NodeJoined { node, name } => write!(f, "node {name} ({node}) joined"),
            Self::NodeUp { node, name, epoch } => {
                write!(f, "node {name} ({node}) up, epoch {epoch}")
            }
            Self::NodeDown { node, name, epoch } => {
                write!(f, "node {name} ({node}) down, epoch {epoch} withdrawn")
            }
            Self::NodeRetiring { node, name } => write!(f, "node {name} ({node}) is shutting down"),
            Self::NodeDrained {
                node,
                name,
                drained: true,
            } => write!(f, "node {name} ({node}) drained"),
            Self::NodeDrained {
                node,
                name,
                drained: false,
            } => write!(f, "node {name} ({node}) undrained"),
            Self::NodeSet { node, name, weight } => {
                write!(f, "node {name} ({node}) set, weight {weight}")
            }
            Self::PolicyPut { policy } => write!(f, "policy {policy} set"),
            Self::PolicyDeleted { policy } => write!(f, "policy {policy} deleted"),
            Self::NodeRemoved { node, name } => write!(f, "node {name} ({node}) removed"),
            Self::Noticed { name, notice, .. } => write!(f, "node {name}: {notice}"),
            Self::InterfaceChanged {
                name,
                interface,
                up,
                ..
            } => {
                let now = if *up { "up" } else { "down" };
                write!(f, "node {name}: interface {interface} is {now}")
            }
            Self::VotersChanged { sets: 1 } => write!(f, "voters changed"),
            Self::VotersChanged { sets: _ } => write!(f, "voters changing"),
        }
    }
}
