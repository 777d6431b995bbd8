//! Which objects and addresses the newest entries have changed, so that who watches need not compare everything.
//!
//! Not agreed on, and not encoded: a state that was decoded or cloned begins an empty one, which says of itself from
//! where on it knows. Whoever asks for what is older is told so, and reads everything anew.

use alloc::collections::{BTreeMap, VecDeque};
use core::net::IpAddr;

use super::State;
use crate::event::What;
use crate::id::NodeId;
use crate::name::Name;
use crate::node::Node;
use crate::vip::Allocation;

/// How many changes are remembered: enough for a loss of ten thousand addresses, in 3 MiB.
pub(super) const KEPT: usize = 32 * 1024;

/// Most of what an entry does to an object it does at once: so far back is looked whether it is noted already.
const RECENT: usize = 8;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Pools.
    Pool,
    /// VIPs.
    Vip,
    /// Nodes.
    Node,
    /// Policies.
    Policy,
}

/// An entry changed an object: what was asked of it, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry.
    pub revision: u64,
    /// The kind of the object.
    pub topic: Topic,
    /// Its name.
    pub name: Name,
    /// Whether the entry made it.
    pub made: bool,
}

/// The newest changes, oldest first.
#[derive(Debug, Default)]
pub struct Journal {
    /// The entry that was noted last.
    newest: u64,
    /// How many changes of objects it has noted, all at the end.
    of_newest: usize,
    objects: Ring<Change>,
    addresses: Ring<(u64, IpAddr)>,
    served: Ring<(u64, Name)>,
}

/// A copy knows of no change: it is made to be looked at, or to try something on.
impl Clone for Journal {
    fn clone(&self) -> Self {
        Self::from(self.newest)
    }
}

impl Journal {
    /// One that knows what is changed after this entry.
    pub(super) fn from(newest: u64) -> Self {
        Self {
            newest,
            of_newest: 0,
            objects: Ring::from(newest),
            addresses: Ring::from(newest),
            served: Ring::from(newest),
        }
    }

    /// All changes of objects by entries after `revision`, oldest first; `None` when not all of them are remembered.
    #[must_use]
    pub fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Change>> {
        self.objects.since(revision)
    }

    /// Whether all changes of objects after `revision` are remembered.
    #[must_use]
    pub fn reaches(&self, revision: u64) -> bool {
        revision >= self.objects.floor
    }

    /// The addresses whose allocation was made, changed or ended by entries after `revision`; some more than once. `None` when
    /// not all of them are remembered: any may have been.
    #[must_use]
    pub fn addresses_since(&self, revision: u64) -> Option<impl Iterator<Item = IpAddr>> {
        let changes = self.addresses.since(revision)?;
        Some(changes.map(|(_, address)| *address))
    }

    /// The VIPs whose spec or addresses entries after `revision` have changed, some more than once: those that are served in
    /// another way. What became of their holders is no such change. `None` when not all of them are remembered.
    #[must_use]
    pub fn served_since(&self, revision: u64) -> Option<impl Iterator<Item = &Name>> {
        let changes = self.served.since(revision)?;
        Some(changes.map(|(_, vip)| vip))
    }

    /// An entry is about to be applied.
    pub(super) fn begin(&mut self, entry: u64) {
        self.newest = self.newest.max(entry);
        self.of_newest = 0;
    }

    /// Notes that an allocation was made, changed or ended.
    pub(super) fn at(&mut self, address: IpAddr) {
        self.addresses.add((self.newest, address));
    }

    /// The same, and the VIPs that have the address, where it comes from, and who holds it.
    pub(super) fn of(
        &mut self,
        address: IpAddr,
        allocation: &Allocation,
        nodes: &BTreeMap<NodeId, Node>,
    ) {
        self.at(address);
        for vip in allocation.vips() {
            self.add(Topic::Vip, vip, false);
        }
        self.add(Topic::Pool, &allocation.pool, false);
        for id in [allocation.holder, allocation.next].into_iter().flatten() {
            if let Some(node) = nodes.get(&id) {
                self.add(Topic::Node, &node.name, false);
            }
        }
    }

    fn add(&mut self, topic: Topic, name: &Name, made: bool) {
        let changes = &self.objects.changes;
        let recent = self.of_newest.min(RECENT);
        let again = recent > 0 && {
            let mut recent = changes.range(changes.len().saturating_sub(recent)..);
            recent.any(|last| last.topic == topic && last.name == *name)
        };
        if again && !made {
            return;
        }
        self.of_newest += 1;
        self.objects.add(Change {
            revision: self.newest,
            topic,
            name: name.clone(),
            made,
        });
    }
}

/// What an entry did.
trait Dated {
    fn revision(&self) -> u64;
}

impl Dated for Change {
    fn revision(&self) -> u64 {
        self.revision
    }
}

impl<T> Dated for (u64, T) {
    fn revision(&self) -> u64 {
        self.0
    }
}

/// The newest of something.
#[derive(Debug)]
struct Ring<T> {
    /// Up to this entry some may be missing.
    floor: u64,
    changes: VecDeque<T>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self::from(0)
    }
}

impl<T> Ring<T> {
    fn from(floor: u64) -> Self {
        Self {
            floor,
            changes: VecDeque::new(),
        }
    }
}

impl<T: Dated> Ring<T> {
    fn since(&self, revision: u64) -> Option<impl Iterator<Item = &T>> {
        if revision < self.floor {
            return None;
        }
        let from = self
            .changes
            .partition_point(|change| change.revision() <= revision);
        Some(self.changes.range(from..))
    }

    fn add(&mut self, change: T) {
        if self.changes.len() == KEPT
            && let Some(oldest) = self.changes.pop_front()
        {
            self.floor = oldest.revision();
        }
        self.changes.push_back(change);
    }
}

impl State {
    /// Which objects the newest entries have changed.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn changed(&mut self, topic: Topic, name: &Name) {
        self.journal.add(topic, name, false);
    }

    pub(super) fn made(&mut self, topic: Topic, name: &Name) {
        self.journal.add(topic, name, true);
    }

    /// A VIP whose spec or addresses are others now.
    pub(super) fn changed_serving(&mut self, vip: &Name) {
        self.changed(Topic::Vip, vip);
        self.journal.served.add((self.journal.newest, vip.clone()));
    }

    pub(super) fn changed_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get(&id) {
            self.journal.add(Topic::Node, &node.name, false);
        }
    }

    /// The pools that offer an address: how many they have left.
    pub(super) fn changed_pools(&mut self, address: IpAddr) {
        for pool in self.index.stock.pools_with(address) {
            self.journal.add(Topic::Pool, pool, false);
        }
    }

    /// The pools that hand out nothing because they overlap an older one.
    pub(super) fn changed_clashes(&mut self) {
        let clashing = |pool: &&Name| self.index.stock.clash(pool).is_some();
        for pool in self.pools.keys().filter(clashing) {
            self.journal.add(Topic::Pool, pool, false);
        }
    }

    /// A node, and the VIPs that it holds: whether somebody answers for them is shown by them.
    fn changed_host(&mut self, id: NodeId) {
        self.changed_node(id);
        for address in self.index.held_by(id) {
            let vips = self.allocations.get(&address).map(|of| of.vips());
            for vip in vips.into_iter().flatten() {
                self.journal.add(Topic::Vip, vip, false);
            }
        }
    }

    /// What an event tells of. Whatever is no event is noted where it happens.
    pub(super) fn changed_by(&mut self, what: &What) {
        match what {
            What::PoolPut { pool } | What::PoolDeleted { pool } => self.changed(Topic::Pool, pool),
            What::VipPut { vip } | What::VipDeleted { vip } => self.changed_serving(vip),
            What::Allocated { address: _, vip }
            | What::Freed { address: _, vip }
            | What::Shared { address: _, vip }
            | What::Unshared { address: _, vip }
            | What::InUse { vip, .. }
            | What::NotInUse { address: _, vip }
            | What::SetAside {
                address: _,
                vip,
                pool: _,
            }
            | What::VipMoved { vip, to: _ }
            | What::Unmet { vip, why: _ }
            | What::Satisfied { vip } => self.changed(Topic::Vip, vip),
            What::HolderChanged {
                vip,
                from,
                to,
                address: _,
                epoch: _,
                cause: _,
            } => {
                self.changed(Topic::Vip, vip);
                for id in [*from, *to].into_iter().flatten() {
                    self.changed_node(id);
                }
            }
            What::NodeJoined { name, .. } | What::NodeRemoved { name, .. } => {
                self.changed(Topic::Node, name);
            }
            What::NodeUp { node, .. }
            | What::NodeDown { node, .. }
            | What::NodeRetiring { node, .. }
            | What::NodeDrained { node, .. }
            | What::NodeSet { node, .. }
            | What::InterfaceChanged { node, .. } => self.changed_host(*node),
            What::PolicyPut { policy } | What::PolicyDeleted { policy } => {
                self.changed(Topic::Policy, policy);
            }
            // Shown as an event, and by the node itself; which nodes vote is shown by the cluster. What moves for balance, and
            // what a backup brings, is told one by one.
            What::Noticed { .. }
            | What::VotersChanged { .. }
            | What::Rebalance { .. }
            | What::Restored { .. }
            | What::TokenMade { .. }
            | What::TokenRevoked { .. }
            | What::JoinTokenMade { .. } => {}
        }
    }
}
