//! The replicated state: a pure function of the log.
//!
//! [`State::apply`] is the only way in. A command that is refused changes nothing but the applied index; the
//! same log gives the same bytes on every replica, whatever its clock says.

mod backup;
mod encoding;
mod failback;
mod index;
mod invariant;
mod ipam;
mod journal;
mod nodes;
mod once;
mod passage;
mod placement;
mod places;
mod policies;
mod pools;
mod proofs;
mod rebalance;
mod services;
mod sight;
mod size;
mod specs;
#[cfg(test)]
mod tests;
mod tokens;
mod unit;
mod vips;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use core::net::IpAddr;

use crate::block::Family;
use crate::by_address::ByAddress;
use crate::command::{Applied, Command, Expect, Outcome, Proposal};
use crate::event::{Event, What};
use crate::id::{NodeId, Revision};
use crate::name::Name;
use crate::node::{Lease, Node, VoterSets};
use crate::once::Answer;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::rejection::Rejection;
use crate::time::Millis;
use crate::token::{ApiToken, JoinToken, TokenHash};
use crate::vip::{Allocation, Vip};

pub use backup::MAX_STAGED;
use index::Index;
pub use ipam::{Clash, Cooling};
pub use journal::{Change, Journal, Topic};
pub use size::MOST;
use specs::Specs;

/// How many of the newest events are kept; more of one entry.
pub const EVENTS_KEPT: usize = 1000;

/// Everything the cluster agrees on.
#[derive(Clone, Debug, Default)]
pub struct State {
    cluster: Option<[u8; 16]>,
    applied: u64,
    pools: BTreeMap<Name, Pool>,
    /// Shared with the copies of a state: making one does not copy what is in it.
    vips: BTreeMap<Name, Arc<Vip>>,
    allocations: ByAddress<Arc<Allocation>>,
    nodes: BTreeMap<NodeId, Node>,
    voter_sets: BTreeMap<u64, VoterSets>,
    join_tokens: BTreeMap<TokenHash, JoinToken>,
    api_tokens: BTreeMap<TokenHash, ApiToken>,
    events: VecDeque<Event>,
    events_made: u64,
    policies: BTreeMap<Name, Policy>,
    cooling: BTreeMap<IpAddr, Cooling>,
    /// A backup that is being brought in.
    staged: Option<backup::Staged>,
    /// What came of commands with a ticket, oldest first.
    answers: VecDeque<Answer>,
    /// By how much numbers of birth are ahead of the log: a restore makes many objects in one entry, in their old order.
    ahead: u64,
    /// Nodes that have said of a VIP that all of its backends are down, where that matters.
    blind: BTreeMap<Name, BTreeSet<NodeId>>,
    /// Derived from the rest, never encoded.
    index: Index,
    /// Of this copy alone, never encoded.
    journal: Journal,
    /// Of this copy alone, never encoded: what VIPs have asked for lately.
    specs: Specs,
}

/// The entry being applied.
#[derive(Clone, Copy, Debug)]
struct Entry {
    revision: Revision,
    at: Millis,
}

/// How full a pool is, for one family. `None` counts are beyond `u128` (all of IPv6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Addresses it can ever hand out.
    pub total: Option<u128>,
    /// Addresses allocated from it.
    pub used: u128,
    /// Addresses free now; zero is exhausted. A disabled pool hands out none of them.
    pub available: Option<u128>,
}

impl State {
    /// Applies the log entry at `index`. Deterministic; total over every command.
    ///
    /// # Errors
    /// A [`Rejection`], and then nothing but the applied index has changed.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        debug_assert!(index > self.applied, "entries are applied once, in order");
        self.applied = index;
        self.journal.begin(index);
        let entry = Entry {
            revision: Revision(index),
            at: proposal.at,
        };
        if let Some(token) = self.revoked(proposal) {
            return Err(Rejection::Revoked { token });
        }
        let outcome = self.carry(entry, &proposal.command);
        if outcome.is_ok() {
            self.forget_staged(entry);
        }
        self.satisfy_waiting(entry);
        if let Some(by) = &proposal.by {
            let new = self.events.iter_mut().rev();
            let new = new.take_while(|event| event.revision == entry.revision);
            new.for_each(|event| event.by = Some(by.clone()));
        }
        outcome
    }

    /// Carries a command out.
    fn carry(&mut self, entry: Entry, command: &Command) -> Outcome {
        match command {
            Command::Bootstrap {
                cluster,
                name,
                peer,
                beat_key,
            } => self.bootstrap(entry, *cluster, name, *peer, *beat_key),
            Command::Join {
                token,
                name,
                peer,
                beat_key,
            } => self.join(entry, token, name, *peer, *beat_key),
            Command::NodeUp {
                node,
                version,
                interfaces,
                labels,
            } => self.node_up(entry, *node, version, interfaces, labels),
            Command::NodeReport {
                node,
                interfaces,
                membership,
            } => self.node_report(entry, *node, interfaces, *membership),
            Command::NodeDown {
                node,
                epoch,
                membership,
            } => self.node_down(entry, *node, *epoch, *membership),
            Command::NodeRetire { node, epoch } => self.node_retire(entry, *node, *epoch),
            Command::Released { node, addresses } => self.released(entry, *node, addresses),
            Command::SetDrained { node, drained } => self.set_drained(entry, node, *drained),
            Command::RemoveNode { node } => self.remove_node(entry, node),
            Command::PutPool {
                name,
                labels,
                spec,
                expect,
                care,
            } => self.put_pool(entry, name, labels, spec, *expect, *care),
            Command::DeletePool {
                name,
                expect,
                force,
            } => self.delete_pool(entry, name, *expect, *force),
            Command::PutVip {
                name,
                labels,
                spec,
                expect,
            } => self.put_vip(entry, name, labels, spec, *expect),
            Command::DeleteVip { name, expect } => self.delete_vip(entry, name, *expect),
            Command::MoveVip { name, to } => self.move_vip(entry, name, to),
            Command::PutJoinToken {
                token,
                role,
                expires,
                uses,
            } => self.put_join_token(entry, token, *role, *expires, *uses),
            Command::PutApiToken {
                token,
                name,
                access,
                expires,
            } => self.put_api_token(entry, token, name, *access, *expires),
            Command::DeleteApiToken { name } => self.delete_api_token(entry, name),
            Command::PutPolicy {
                name,
                labels,
                spec,
                expect,
            } => self.put_policy(entry, name, labels, spec, *expect),
            Command::DeletePolicy { name, expect } => self.delete_policy(entry, name, *expect),
            Command::SetNode {
                node,
                weight,
                labels,
                drained,
                expect,
            } => self.set_node(entry, node, *weight, labels, *drained, *expect),
            Command::Rebalance => self.rebalance(entry),
            Command::FailBack => self.fail_back(entry),
            Command::Notice { node, notice } => self.notice(entry, *node, notice),
            Command::Sight { node, vip, down } => self.sight(entry, *node, vip, *down),
            Command::Ripen => self.ripen(entry),
            Command::Probed { node, found } => self.probed(entry, *node, found),
            Command::Stage {
                upload,
                part,
                bytes,
            } => self.stage(entry, *upload, *part, bytes),
            Command::Restore { upload } => self.restore(entry, *upload),
            Command::Once { ticket, command } => self.once(entry, *ticket, command),
        }
    }

    /// Notes the voter sets of a committed membership entry: one set, or two while the change is joint.
    pub fn apply_membership(&mut self, index: u64, sets: &[BTreeSet<NodeId>]) {
        self.applied = self.applied.max(index);
        self.journal.begin(index);
        self.voter_sets.insert(
            index,
            VoterSets {
                sets: sets.to_vec(),
            },
        );
        self.forget_old_voter_sets();
        let entry = Entry {
            revision: Revision(index),
            at: self.events.back().map_or(Millis(0), |event| event.at),
        };
        self.note(
            entry,
            What::VotersChanged {
                sets: u8::try_from(sets.len()).unwrap_or(u8::MAX),
            },
        );
    }

    /// Notes that a log entry without a command (a blank one) was applied.
    pub fn apply_blank(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    /// The index of the last entry applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The cluster's identity, once it is bootstrapped.
    #[must_use]
    pub fn cluster(&self) -> Option<[u8; 16]> {
        self.cluster
    }

    /// All pools, by name.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<Name, Pool> {
        &self.pools
    }

    /// All policies, by name.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<Name, Policy> {
        &self.policies
    }

    /// Why a pool hands out nothing, if it overlaps an older one.
    #[must_use]
    pub fn clash(&self, pool: &Name) -> Option<&Clash> {
        self.index.stock.clash(pool)
    }

    /// Addresses that nobody is given for a while, since they were freed.
    #[must_use]
    pub fn cooling(&self) -> &BTreeMap<IpAddr, Cooling> {
        &self.cooling
    }

    /// All VIPs, by name.
    #[must_use]
    pub fn vips(&self) -> &BTreeMap<Name, Arc<Vip>> {
        &self.vips
    }

    /// All allocations, by address.
    #[must_use]
    pub fn allocations(&self) -> &ByAddress<Arc<Allocation>> {
        &self.allocations
    }

    /// All nodes, by number.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// The node with this number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The node of this name.
    #[must_use]
    pub fn node_named(&self, name: &Name) -> Option<&Node> {
        self.index.names.get(name).and_then(|id| self.nodes.get(id))
    }

    /// The addresses that `node` holds.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = (IpAddr, &Allocation)> {
        self.index
            .held_by(node)
            .filter_map(|address| Some((address, &**self.allocations.get(&address)?)))
    }

    /// How full `pool` is for `family`.
    #[must_use]
    pub fn usage(&self, pool: &Pool, family: Family) -> Usage {
        Usage {
            total: pool.spec.total(family),
            used: self.index.stock.used(&pool.name, family),
            available: self.index.stock.available(&pool.name, family),
        }
    }

    /// The voter sets by which support counts now, with the index of their entry.
    #[must_use]
    pub fn voters(&self) -> Option<(u64, &VoterSets)> {
        self.voter_sets
            .last_key_value()
            .map(|(index, sets)| (*index, sets))
    }

    /// Every voter set by which `node` may still be counting support: a takeover of its addresses needs
    /// certificates from a majority of each. That is what makes membership changes safe while some holder has
    /// not heard of them.
    pub fn voters_known_to(&self, node: &Node) -> impl Iterator<Item = &VoterSets> {
        let from = self
            .voter_sets
            .range(..=node.membership)
            .next_back()
            .map_or(0, |(index, _)| *index);
        self.voter_sets.range(from..).map(|(_, sets)| sets)
    }

    /// Whether some running lease may still count by `node`'s support. One that is no voter any more goes on certifying
    /// so long: without it a holder that is lost meanwhile could not be replaced.
    #[must_use]
    pub fn counts(&self, node: NodeId) -> bool {
        let mut all = self.voter_sets.values();
        all.any(|sets| sets.sets.iter().any(|set| set.contains(&node)))
    }

    /// Join tokens, by hash.
    #[must_use]
    pub fn join_tokens(&self) -> &BTreeMap<TokenHash, JoinToken> {
        &self.join_tokens
    }

    /// API tokens, by hash.
    #[must_use]
    pub fn api_tokens(&self) -> &BTreeMap<TokenHash, ApiToken> {
        &self.api_tokens
    }

    /// The newest events, oldest first: [`EVENTS_KEPT`], or all of the newest entry that made any, if those are more.
    #[must_use]
    pub fn events(&self) -> &VecDeque<Event> {
        &self.events
    }

    fn note(&mut self, entry: Entry, what: What) {
        self.changed_by(&what);
        self.events_made += 1;
        // Those of one entry are kept together, so that whoever follows sees all of them.
        let older = |first: &Event| first.revision != entry.revision;
        while self.events.len() >= EVENTS_KEPT && self.events.front().is_some_and(older) {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            seq: self.events_made,
            revision: entry.revision,
            at: entry.at,
            what,
            by: None,
        });
    }

    /// The number by which an object that is made now is younger than all that are there.
    fn born(&self, entry: Entry) -> Revision {
        Revision(entry.revision.0 + self.ahead)
    }

    /// The same for one of several made by one entry.
    fn next_born(&mut self, entry: Entry) -> Revision {
        self.ahead += 1;
        self.born(entry)
    }

    /// Voter sets that no running lease counts by any more are of no use.
    fn forget_old_voter_sets(&mut self) {
        let Some((&newest, _)) = self.voter_sets.last_key_value() else {
            return;
        };
        let known = self
            .nodes
            .values()
            .filter(|node| node.lease == Lease::Up)
            .map(|node| node.membership)
            .min();
        let oldest = known.unwrap_or(newest);
        if let Some((&keep, _)) = self.voter_sets.range(..=oldest).next_back() {
            self.voter_sets.retain(|index, _| *index >= keep);
        }
    }
}

/// Checks a writer's expectation against the object's revision.
fn expected(
    expect: Expect,
    name: &Name,
    kind: &str,
    now: Option<Revision>,
) -> Result<(), Rejection> {
    match (expect, now) {
        (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(Rejection::Exists {
            kind: kind.into(),
            name: name.as_str().into(),
        }),
        (Expect::At { revision }, Some(now)) if revision == now => Ok(()),
        (Expect::At { .. }, now) => Err(Rejection::Stale {
            name: name.clone(),
            now,
        }),
    }
}

fn not_found(kind: &str, name: &Name) -> Rejection {
    Rejection::NotFound {
        kind: kind.into(),
        name: name.as_str().into(),
    }
}

/// What a write of a whole object did.
fn put(entry: Entry, new: bool) -> Outcome {
    let revision = entry.revision;
    Ok(if new {
        Applied::Created { revision }
    } else {
        Applied::Done { revision }
    })
}

fn done(entry: Entry) -> Outcome {
    Ok(Applied::Done {
        revision: entry.revision,
    })
}
