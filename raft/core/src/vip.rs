//! VIPs: what the operator asks for; and allocations: the durable fact that an address belongs to one.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::block::Family;
use crate::codec::{wire_enum, wire_struct};
use crate::event::Cause;
use crate::few::Few;
use crate::health::Check;
use crate::id::{Epoch, NodeId, Revision};
use crate::name::{Labels, Name};
use crate::node::{Node, Prefix};
use crate::proof::{Claim, Proof};
use crate::rejection::Rejection;
use crate::selector::{NAMESPACE_LABEL, Selector};
use crate::service::{Affinity, Backends, ClientAddress, Dispatch, Mode, Ports, TrafficPolicy};
use crate::time::Millis;

/// Which families a VIP wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// One IPv4 address.
    Ipv4,
    /// One IPv6 address.
    Ipv6,
    /// One of each if pools offer both, else one.
    #[default]
    PreferDual,
    /// One of each or nothing.
    RequireDual,
}

wire_enum!(Families { 0 => Ipv4, 1 => Ipv6, 2 => PreferDual, 3 => RequireDual });

impl Families {
    /// The families to try, in order.
    #[must_use]
    pub fn wanted(self) -> &'static [Family] {
        match self {
            Self::Ipv4 => &[Family::V4],
            Self::Ipv6 => &[Family::V6],
            Self::PreferDual | Self::RequireDual => &Family::ALL,
        }
    }
}

/// Whether a VIP that had to leave its home returns there.
///
/// An address's home is the node it was last put on by choice: by its first placement, a move, a rebalance, or by
/// joining a group. A failover or a drain does not change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failback {
    /// As soon as its home has been able to hold it for this long without a break.
    After {
        /// How long; zero is as soon as it is known to be supported, after a second.
        delay: Millis,
    },
    /// Not by itself. (The last one, so that the most reluctant of several is their maximum.)
    #[default]
    Never,
}

wire_enum!(Failback { 0 => After { delay }, 1 => Never });

/// What the operator asks of a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipSpec {
    /// The pool to take addresses from; any that auto-assigns when absent.
    pub pool: Option<Name>,
    /// The very addresses wanted; when empty, the next free ones of `families`.
    pub addresses: Vec<IpAddr>,
    /// Which families, when no address is named.
    pub families: Families,
    /// How the holder serves it.
    pub mode: Mode,
    /// Announce on the interface of this name, even where no subnet of it contains the address.
    pub interface: Option<String>,
    /// VIPs of the same group are held by one node and move together.
    pub group: Option<Name>,
    /// VIPs with the same key are kept on different nodes as long as there are enough of them.
    pub apart: Option<Name>,
    /// Whether it returns to its home.
    pub failback: Failback,
    /// The namespace it belongs to; [`VipSpec::NAMESPACE`] when absent.
    pub namespace: Option<Name>,
    /// VIPs with the same key may have the same addresses, see [`crate::sharing`].
    pub sharing_key: Option<String>,
    /// Namespaces, or `*` for all, whose VIPs may share with this one.
    pub sharing_namespaces: BTreeSet<String>,
    /// The ports it claims of its addresses, and spreads over backends where its mode is to; all when it names none.
    pub ports: Ports,
    /// Who serves what comes to these ports, unless the holder itself does ([`Mode::Local`]).
    pub backends: Backends,
    /// Which nodes it may be on, and which backends its holder uses.
    pub traffic: TrafficPolicy,
    /// How the backends are looked after; not at all without.
    pub health: Option<Arc<Check>>,
    /// What connections go to one backend.
    pub affinity: Affinity,
    /// Whose connections are taken; everybody's when it is empty.
    pub sources: BTreeSet<Prefix>,
    /// How packets travel to the backends of [`Mode::Dsr`].
    pub dispatch: Dispatch,
    /// Whom the backends of [`Mode::Nat`] see as the client.
    pub client: ClientAddress,
    /// How long after its last connection began a client is kept with its backend; [`Affinity::TIMEOUT`] when absent.
    pub affinity_timeout: Option<Millis>,
}

wire_struct!(VipSpec {
    pool,
    addresses,
    families,
    mode,
    interface
} since 2 { group, apart, failback } since 3 { namespace, sharing_key, sharing_namespaces, ports } since 4 { backends, traffic, health, affinity, sources } since 5 { dispatch } since 8 { client } since 9 { affinity_timeout });

impl VipSpec {
    /// The namespace of a VIP that names none.
    pub const NAMESPACE: &str = "default";

    /// The namespace it belongs to.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace
            .as_ref()
            .map_or(Self::NAMESPACE, Name::as_str)
    }

    /// Whether the holder of an address of this family could be this node, as far as its backends have a say: where only a
    /// node's own may be used, the node has one of the family that takes connections.
    #[must_use]
    pub fn has_backend_for(&self, node: &Node, family: Family) -> bool {
        let mut backends = self.backends.iter();
        match self.traffic {
            TrafficPolicy::Cluster => true,
            TrafficPolicy::Local => backends.any(|(at, backend)| {
                backend.weight > 0 && Family::of(at.address) == family && backend.is_on(at, node)
            }),
        }
    }

    /// Whether a selector is about the VIP with this spec. Its namespace is a label that it cannot set itself.
    #[must_use]
    pub fn selected(&self, selector: &Selector, name: &Name, labels: &Labels) -> bool {
        selector.selects(name, |key| match key {
            NAMESPACE_LABEL => Some(self.namespace()),
            other => labels.get(other).map(String::as_str),
        })
    }
}

/// What a VIP asks for and has not been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An address of this family.
    Family {
        /// Which.
        family: Family,
    },
    /// This very address.
    Address {
        /// Which.
        address: IpAddr,
    },
}

wire_enum!(Wanted { 0 => Family { family }, 1 => Address { address } });

/// A wish of a VIP that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// For what.
    pub wanted: Wanted,
    /// Why it has not been given.
    pub why: Rejection,
}

wire_struct!(Unmet { wanted, why });

/// A VIP as the cluster holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// What was asked. Those that ask for the same may share it, see `state::specs`.
    pub spec: Arc<VipSpec>,
    /// Its addresses; each has an [`Allocation`].
    pub addresses: Few<IpAddr>,
    /// When it was made.
    pub created: Millis,
    /// How many times its spec changed, from 1.
    pub generation: u64,
    /// The entry that last changed it.
    pub revision: Revision,
    /// The entry that made it: who waits longer is served first.
    pub born: Revision,
    /// What it asks for and has not been given; it waits for that.
    pub unmet: Vec<Unmet>,
    /// Since when it lacks what it needs, if it does ([`Vip::satisfied`]), whatever that was meanwhile. No wish can tell: one
    /// that is not needed may wait long before the VIP lacks anything, and be needed after a change of its spec.
    pub unsatisfied_since: Option<Millis>,
}

wire_struct!(Vip {
    name,
    labels,
    spec,
    addresses,
    created,
    generation,
    revision
} since 3 { born, unmet } since 7 { unsatisfied_since });

impl Vip {
    /// Whether it has what it needs. One that prefers two families needs but one of them.
    #[must_use]
    pub fn satisfied(&self) -> bool {
        let enough = self.spec.addresses.is_empty() && self.spec.families == Families::PreferDual;
        self.unmet.is_empty() || (enough && !self.addresses.is_empty())
    }
}

/// The fact that an address belongs to a VIP, or is shared by several, and who holds it.
///
/// ```text
///             place                    vacate                       released, node down
///   no holder ─────> held by n, epoch e ─────> held by n, vacating ────────────────────> next holder or none
/// ```
/// A holder is only ever replaced after it released the address or its lease was withdrawn: an address whose
/// holder may still be announcing stays allocated, even when its VIP is gone (`freeing`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The VIP it belongs to: of those that share it, who has had it longest.
    pub vip: Name,
    /// The pool it came from.
    pub pool: Name,
    /// When it was allocated.
    pub since: Millis,
    /// Explicit interface of the VIP, see [`VipSpec::interface`].
    pub interface: Option<String>,
    /// Who may announce it.
    pub holder: Option<NodeId>,
    /// The entry that made the holder (or took the last one away): the fencing token.
    pub epoch: Epoch,
    /// When that was.
    pub held_since: Millis,
    /// Why the holder is asked to release it, if it is.
    pub vacating: Option<Cause>,
    /// Who shall hold it next, while it is vacating.
    pub next: Option<NodeId>,
    /// Its VIP no longer wants it: it is freed as soon as no holder is left.
    pub freeing: bool,
    /// The node it was last put on by choice, see [`Failback`].
    pub home: Option<NodeId>,
    /// The other VIPs that share it, in the order they came.
    pub sharers: Vec<Name>,
    /// Whether somebody outside has it.
    pub proof: Proof,
    /// Its VIP had it before it was allocated this time: a restore or a pool's `reclaim` gave it back. So it may have been
    /// announced, whatever its proof says, and is kept as though the VIP had named it.
    pub came_back: bool,
}

wire_struct!(Allocation {
    vip,
    pool,
    since,
    interface,
    holder,
    epoch,
    held_since,
    vacating,
    next,
    freeing
} since 2 { home } since 3 { sharers } since 5 { proof } since 7 { came_back });

impl Allocation {
    /// The VIPs that have it.
    pub fn vips(&self) -> impl Iterator<Item = &Name> + Clone {
        core::iter::once(&self.vip).chain(&self.sharers)
    }

    /// Who has it outside, where it never was announced for that: nobody knows it by its VIP, which may be given another one.
    #[must_use]
    pub fn kept_out_by(&self) -> Option<&Claim> {
        self.proof.refused_for().filter(|_| !self.came_back)
    }

    /// Whether this VIP has it.
    #[must_use]
    pub fn is_of(&self, vip: &Name) -> bool {
        self.vips().any(|user| user == vip)
    }

    /// Who holds the address once what is under way is done.
    #[must_use]
    pub fn destination(&self) -> Option<NodeId> {
        match self.vacating {
            Some(_) => self.next,
            None => self.holder,
        }
    }

    /// Where it goes once its holder has let go; another destination only once the old one's lease was withdrawn. That
    /// makes a new token: the holder's word that it has let go must tell of the new one.
    pub(crate) fn retarget(&mut self, to: Option<NodeId>, revision: Revision) {
        if self.next.is_some() && self.next != to {
            self.epoch = Epoch(revision.0);
        }
        self.next = to;
    }

    /// Leaves the address with its holder, which was asked to release it. A new token, since the holder may have
    /// shut the address under the old one already and said so: that word is not to give away what it now opens
    /// again.
    pub(crate) fn take_back(&mut self, revision: Revision, at: Millis) {
        self.freeing = false;
        self.vacating = None;
        self.next = None;
        self.epoch = Epoch(revision.0);
        self.held_since = at;
    }
}
