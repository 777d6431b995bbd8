//! Commands: everything that can be asked of the cluster's state. Applied in log order by every replica.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::asker::Asker;
use crate::codec::{DecodeError, LAYOUT, Reader, Wire, Writer, wire_enum};
use crate::id::{Epoch, NodeId, Revision};
use crate::name::{Labels, Name};
use crate::node::{Interface, Role, Weight};
use crate::notice::Notice;
use crate::once::{Ticket, Ticketed};
use crate::policy::PolicySpec;
use crate::pool::{Care, PoolSpec};
use crate::proof::Found;
use crate::time::Millis;
use crate::token::{Access, TokenHash};
use crate::vip::VipSpec;

/// What a writer expects of the object it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: create or replace.
    #[default]
    Any,
    /// That it does not exist.
    Absent,
    /// That it was last changed by this entry.
    At {
        /// That entry.
        revision: Revision,
    },
}

wire_enum!(Expect { 0 => Any, 1 => Absent, 2 => At { revision } });

/// One change asked of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes the cluster: its identity and node 1. Only ever the first command.
    Bootstrap {
        /// Random, tells clusters apart.
        cluster: [u8; 16],
        /// The first node's name.
        name: Name,
        /// Where its peers will reach it.
        peer: SocketAddr,
        /// Its static X25519 public key.
        beat_key: [u8; 32],
    },
    /// Admits a node that shows a join token.
    Join {
        /// SHA-256 of the token's secret.
        token: TokenHash,
        /// Its name.
        name: Name,
        /// Where its peers reach it.
        peer: SocketAddr,
        /// Its static X25519 public key.
        beat_key: [u8; 32],
    },
    /// A node begins a lease: at its start, or after its last one was withdrawn or fenced.
    NodeUp {
        /// Which.
        node: NodeId,
        /// The version of vipd it runs.
        version: String,
        /// Its interfaces.
        interfaces: Vec<Interface>,
        /// Its labels.
        labels: Labels,
    },
    /// A node tells what it can announce on, and by which voters it counts support.
    NodeReport {
        /// Which.
        node: NodeId,
        /// Its interfaces.
        interfaces: Vec<Interface>,
        /// The last membership entry it has applied.
        membership: u64,
    },
    /// A majority has certified that a node's lease is over.
    NodeDown {
        /// Which.
        node: NodeId,
        /// The lease that is over; a later one is not.
        epoch: Epoch,
        /// The newest membership entry that the certificates were judged by; refused when there is a newer one.
        membership: u64,
    },
    /// A node shuts down: its addresses go elsewhere, and none come.
    NodeRetire {
        /// Which.
        node: NodeId,
        /// Its lease.
        epoch: Epoch,
    },
    /// A holder has closed the gate of addresses and gives them back.
    Released {
        /// Which holder.
        node: NodeId,
        /// Each with the fencing token under which it was held.
        addresses: Vec<(IpAddr, Epoch)>,
    },
    /// The operator wants no VIP on a node, or wants them again.
    SetDrained {
        /// Which node.
        node: Name,
        /// Drained, else undrained.
        drained: bool,
    },
    /// Forgets a node that is no voter and whose lease is over.
    RemoveNode {
        /// Which.
        node: Name,
    },
    /// Makes or replaces a pool.
    PutPool {
        /// Its name.
        name: Name,
        /// Its labels.
        labels: Labels,
        /// What is asked.
        spec: PoolSpec,
        /// Compare-and-set.
        expect: Expect,
        /// What may come of it.
        care: Care,
    },
    /// Deletes a pool.
    DeletePool {
        /// Which.
        name: Name,
        /// Compare-and-set.
        expect: Expect,
        /// Take its addresses from their VIPs where no other pool has them.
        force: bool,
    },
    /// Makes or replaces a VIP.
    PutVip {
        /// Its name.
        name: Name,
        /// Its labels.
        labels: Labels,
        /// What is asked.
        spec: VipSpec,
        /// Compare-and-set.
        expect: Expect,
    },
    /// Deletes a VIP and frees its addresses.
    DeleteVip {
        /// Which.
        name: Name,
        /// Compare-and-set.
        expect: Expect,
    },
    /// Moves a VIP's addresses to a node.
    MoveVip {
        /// Which.
        name: Name,
        /// Where.
        to: Name,
    },
    /// Makes a join token valid.
    PutJoinToken {
        /// SHA-256 of its secret.
        token: TokenHash,
        /// The role it gives.
        role: Role,
        /// When it ends.
        expires: Millis,
        /// How many nodes may use it.
        uses: u32,
    },
    /// Makes an API token valid.
    PutApiToken {
        /// SHA-256 of its secret.
        token: TokenHash,
        /// Its name.
        name: Name,
        /// What it may do.
        access: Access,
        /// When it ends.
        expires: Option<Millis>,
    },
    /// Revokes an API token.
    DeleteApiToken {
        /// Its name.
        name: Name,
    },
    /// Makes or replaces a policy.
    PutPolicy {
        /// Its name.
        name: Name,
        /// Its labels.
        labels: Labels,
        /// What is asked.
        spec: PolicySpec,
        /// Compare-and-set.
        expect: Expect,
    },
    /// Deletes a policy.
    DeletePolicy {
        /// Which.
        name: Name,
        /// Compare-and-set.
        expect: Expect,
    },
    /// Changes what the operator says of a node; what is not named stays.
    SetNode {
        /// Which.
        node: Name,
        /// Its weight.
        weight: Option<Weight>,
        /// Labels to set, or (`None`) to take back, so that what its configuration says holds again.
        labels: BTreeMap<String, Option<String>>,
        /// Whether it is drained.
        drained: Option<bool>,
        /// Compare-and-set.
        expect: Expect,
    },
    /// Moves as few addresses as bring all loads within one of their share.
    Rebalance,
    /// Returns those VIPs to their homes whose delay is over.
    FailBack,
    /// Lets those addresses be given again that have cooled down.
    Ripen,
    /// A holder has asked the link whether somebody outside has addresses.
    Probed {
        /// Which holder.
        node: NodeId,
        /// What it found.
        found: Vec<Found>,
    },
    /// Carries a command out, unless one with the same ticket was: then it is answered as that one.
    Once {
        /// By what it is known again.
        ticket: Ticket,
        /// What to do.
        command: Ticketed,
    },
    /// Brings the next part of a backup, which is larger than an entry may be.
    Stage {
        /// A random number: whose part it is.
        upload: u128,
        /// Its number, from 0.
        part: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Replaces pools, policies, VIPs and allocations by those of the backup whose parts have come.
    Restore {
        /// The random number of its parts.
        upload: u128,
    },
    /// A node noticed something on its host: an event, and no more.
    Notice {
        /// Which node.
        node: NodeId,
        /// What.
        notice: Notice,
    },
    /// A node says of a VIP that leaves it for that, whether all backends are down as it sees them.
    Sight {
        /// Which node.
        node: NodeId,
        /// Which VIP.
        vip: Name,
        /// All are down.
        down: bool,
    },
}

wire_enum!(Command {
    0 => Bootstrap { cluster, name, peer, beat_key },
    1 => Join { token, name, peer, beat_key },
    2 => NodeUp { node, version, interfaces, labels },
    3 => NodeReport { node, interfaces, membership },
    4 => NodeDown { node, epoch, membership },
    5 => NodeRetire { node, epoch },
    6 => Released { node, addresses },
    7 => SetDrained { node, drained },
    8 => RemoveNode { node },
    9 => PutPool { name, labels, spec, expect, care },
    10 => DeletePool { name, expect, force },
    11 => PutVip { name, labels, spec, expect },
    12 => DeleteVip { name, expect },
    13 => MoveVip { name, to },
    14 => PutJoinToken { token, role, expires, uses },
    15 => PutApiToken { token, name, access, expires },
    16 => DeleteApiToken { name },
    17 => PutPolicy { name, labels, spec, expect },
    18 => DeletePolicy { name, expect },
    19 => SetNode { node, weight, labels, drained, expect },
    20 => Rebalance,
    21 => FailBack,
    22 => Notice { node, notice },
    23 => Ripen,
    24 => Stage { upload, part, bytes },
    25 => Restore { upload },
    26 => Once { ticket, command },
    27 => Probed { node, found },
    28 => Sight { node, vip, down },
});

/// A command with the wall-clock time its proposer stamped on it: the payload of a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// When, by the proposer's clock.
    pub at: Millis,
    /// What.
    pub command: Command,
    /// Who asked for it; `None` when it is a node's own doing.
    pub by: Option<Asker>,
}

impl Wire for Proposal {
    fn encode(&self, out: &mut Writer) {
        LAYOUT.encode(out);
        self.at.encode(out);
        self.command.encode(out);
        self.by.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.versioned("log entry", |input| {
            Ok(Self {
                at: Millis::decode(input)?,
                command: Command::decode(input)?,
                by: Wire::decode(input)?,
            })
        })
    }
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the state, or found it as asked.
    Done {
        /// The entry that last changed the object named.
        revision: Revision,
    },
    /// It made the object named.
    Created {
        /// This entry.
        revision: Revision,
    },
    /// A node was admitted.
    Joined {
        /// Its number.
        node: NodeId,
        /// Its role.
        role: Role,
    },
}

wire_enum!(Applied { 0 => Done { revision }, 1 => Joined { node, role }, 2 => Created { revision } });

/// What came of a command.
pub type Outcome = Result<Applied, crate::rejection::Rejection>;
