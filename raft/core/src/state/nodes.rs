//! Nodes: join, lease, report, drain, leave.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::{Entry, State, Topic, done, expected, not_found, size};
use crate::command::{Applied, Expect, Outcome};
use crate::event::{Cause, What};
use crate::id::{Epoch, NodeId};
use crate::name::{Labels, Name};
use crate::node::{Interface, Lease, Node, Role, Weight};
use crate::notice::Notice;
use crate::rejection::Rejection;
use crate::token::TokenHash;

impl State {
    pub(super) fn bootstrap(
        &mut self,
        entry: Entry,
        cluster: [u8; 16],
        name: &Name,
        peer: SocketAddr,
        beat_key: [u8; 32],
    ) -> Outcome {
        if self.cluster.is_some() {
            return Err(Rejection::AlreadyBootstrapped);
        }
        self.cluster = Some(cluster);
        self.admit(entry, NodeId(1), name, Role::Voter, peer, beat_key)
    }

    pub(super) fn join(
        &mut self,
        entry: Entry,
        token: &TokenHash,
        name: &Name,
        peer: SocketAddr,
        beat_key: [u8; 32],
    ) -> Outcome {
        let role = {
            let known = self.join_tokens.get(token).ok_or(Rejection::TokenUnknown)?;
            if entry.at >= known.expires {
                return Err(Rejection::TokenExpired);
            }
            if known.uses == 0 {
                return Err(Rejection::TokenUsedUp);
            }
            known.role
        };
        if self.index.names.contains_key(name) {
            return Err(Rejection::Exists {
                kind: "node".into(),
                name: name.as_str().into(),
            });
        }
        if let Some(other) = self.nodes.values().find(|node| node.peer == peer) {
            return Err(Rejection::Exists {
                kind: "peer address of node".into(),
                name: other.name.as_str().into(),
            });
        }
        if let Some(known) = self.join_tokens.get_mut(token) {
            known.uses -= 1;
        }
        self.admit(entry, NodeId(entry.revision.0), name, role, peer, beat_key)
    }

    fn admit(
        &mut self,
        entry: Entry,
        id: NodeId,
        name: &Name,
        role: Role,
        peer: SocketAddr,
        beat_key: [u8; 32],
    ) -> Outcome {
        let node = Node {
            id,
            name: name.clone(),
            config_labels: Labels::new(),
            role,
            peer,
            beat_key,
            version: String::new(),
            interfaces: Vec::new(),
            drained: false,
            retiring: false,
            lease: Lease::Never,
            epoch: Epoch(0),
            membership: 0,
            joined: entry.at,
            revision: entry.revision,
            set_labels: Labels::new(),
            weight: Weight::default(),
            steady_since: entry.at,
        };
        self.index.names.insert(name.clone(), id);
        self.nodes.insert(id, node);
        self.made(Topic::Node, name);
        self.follow_hosts();
        self.note(
            entry,
            What::NodeJoined {
                node: id,
                name: name.clone(),
            },
        );
        Ok(Applied::Joined { node: id, role })
    }

    pub(super) fn node_up(
        &mut self,
        entry: Entry,
        id: NodeId,
        version: &str,
        interfaces: &[Interface],
        labels: &Labels,
    ) -> Outcome {
        let membership = self
            .voter_sets
            .last_key_value()
            .map_or(0, |(index, _)| *index);
        let node = self.member_mut(id)?;
        // A running lease keeps counting by the voters it knows; a fresh one begins with the newest.
        if node.lease != Lease::Up {
            node.membership = membership;
        }
        node.lease = Lease::Up;
        node.epoch = Epoch(entry.revision.0);
        node.retiring = false;
        node.version = version.into();
        node.interfaces = interfaces.to_vec();
        node.config_labels = labels.clone();
        node.steady_since = entry.at;
        node.revision = entry.revision;
        let (name, epoch) = (node.name.clone(), node.epoch);
        self.note(
            entry,
            What::NodeUp {
                node: id,
                name,
                epoch,
            },
        );
        self.follow_hosts();
        self.forget_old_voter_sets();
        self.settle(entry);
        done(entry)
    }

    pub(super) fn node_report(
        &mut self,
        entry: Entry,
        id: NodeId,
        interfaces: &[Interface],
        membership: u64,
    ) -> Outcome {
        let node = self.member_mut(id)?;
        node.membership = node.membership.max(membership);
        let was_up = |name: &str| node.interfaces.iter().any(|i| i.name == name && i.up);
        if interfaces.iter().any(|i| i.up && !was_up(&i.name)) {
            node.steady_since = entry.at;
        }
        let is_up = |name: &str| interfaces.iter().any(|i| i.name == name && i.up);
        let known = node.interfaces.iter().chain(interfaces);
        let changed: BTreeMap<String, bool> = known
            .filter(|i| was_up(&i.name) != is_up(&i.name))
            .map(|i| (i.name.clone(), is_up(&i.name)))
            .collect();
        let name = node.name.clone();
        node.interfaces = interfaces.to_vec();
        node.revision = entry.revision;
        self.changed(Topic::Node, &name);
        for (interface, up) in changed {
            let name = name.clone();
            let node = id;
            self.note(
                entry,
                What::InterfaceChanged {
                    node,
                    name,
                    interface,
                    up,
                },
            );
        }
        self.follow_hosts();
        self.forget_old_voter_sets();
        self.settle(entry);
        done(entry)
    }

    /// Makes an event of what a node noticed; changes nothing.
    pub(super) fn notice(&mut self, entry: Entry, id: NodeId, notice: &Notice) -> Outcome {
        let name = self.member_mut(id)?.name.clone();
        let vip = match notice {
            Notice::Conflict { address, .. } => {
                let allocation = self.allocations.get(address);
                allocation.map(|allocation| allocation.vip.clone())
            }
            Notice::Backend { vip, .. } | Notice::Sight { vip, .. } => Some(vip.clone()),
            Notice::ProgramsLost { .. } | Notice::ClockJumped { .. } | Notice::Refused { .. } => {
                None
            }
        };
        let notice = notice.clone();
        self.note(
            entry,
            What::Noticed {
                node: id,
                name,
                vip,
                notice,
            },
        );
        done(entry)
    }

    pub(super) fn node_down(
        &mut self,
        entry: Entry,
        id: NodeId,
        epoch: Epoch,
        membership: u64,
    ) -> Outcome {
        let newest = self
            .voter_sets
            .last_key_value()
            .map_or(0, |(index, _)| *index);
        let node = self.member_mut(id)?;
        if node.lease != Lease::Up || node.epoch != epoch {
            let now = node.epoch;
            return Err(Rejection::StaleLease {
                node: id,
                epoch,
                now,
            });
        }
        if newest != membership {
            return Err(Rejection::VotersChanged {
                judged: membership,
                now: newest,
            });
        }
        node.lease = Lease::Down;
        node.revision = entry.revision;
        let name = node.name.clone();
        self.note(
            entry,
            What::NodeDown {
                node: id,
                name,
                epoch,
            },
        );
        let lost: Vec<IpAddr> = self.index.held_by(id).collect();
        self.pass_on(entry, lost, Some(id), |_, _| Cause::NodeDown);
        // What was on its way to it.
        self.settle(entry);
        self.forget_old_voter_sets();
        done(entry)
    }

    pub(super) fn node_retire(&mut self, entry: Entry, id: NodeId, epoch: Epoch) -> Outcome {
        let node = self.member_mut(id)?;
        if node.epoch != epoch {
            return Err(Rejection::StaleLease {
                node: id,
                epoch,
                now: node.epoch,
            });
        }
        node.retiring = true;
        node.revision = entry.revision;
        let name = node.name.clone();
        self.note(entry, What::NodeRetiring { node: id, name });
        self.settle(entry);
        done(entry)
    }

    pub(super) fn released(
        &mut self,
        entry: Entry,
        id: NodeId,
        addresses: &[(IpAddr, Epoch)],
    ) -> Outcome {
        self.member_mut(id)?;
        // What is said twice, or was overtaken by a withdrawal, is not looked at.
        let given: Vec<(IpAddr, bool)> = addresses
            .iter()
            .filter_map(|(address, epoch)| {
                let of = self.allocations.get(address)?;
                (of.holder == Some(id) && of.epoch == *epoch)
                    .then_some((*address, of.vacating.is_some()))
            })
            .collect();
        let (asked, unasked): (Vec<_>, Vec<_>) = given.into_iter().partition(|(_, asked)| *asked);
        let only = |list: Vec<(IpAddr, bool)>| list.into_iter().map(|(a, _)| a).collect();
        self.pass_on(entry, only(asked), None, |of, to| match of.vacating {
            Some(cause) if of.next == to => cause,
            // Whom it was meant for is lost.
            Some(_) | None => Cause::Placed,
        });
        // A holder that lets go by itself is not asked to go on.
        self.pass_on(entry, only(unasked), Some(id), |_, _| Cause::Ineligible);
        done(entry)
    }

    pub(super) fn set_drained(&mut self, entry: Entry, name: &Name, drained: bool) -> Outcome {
        self.set_node(
            entry,
            name,
            None,
            &BTreeMap::new(),
            Some(drained),
            Expect::Any,
        )
    }

    pub(super) fn set_node(
        &mut self,
        entry: Entry,
        name: &Name,
        weight: Option<Weight>,
        labels: &BTreeMap<String, Option<String>>,
        drained: Option<bool>,
        expect: Expect,
    ) -> Outcome {
        let node = self
            .node_named(name)
            .ok_or_else(|| not_found("node", name))?;
        expected(expect, name, "node", Some(node.revision))?;
        let mut new = node.clone();
        new.weight = weight.unwrap_or(node.weight);
        new.drained = drained.unwrap_or(node.drained);
        for (key, value) in labels {
            match value {
                Some(value) => new.set_labels.insert(key.clone(), value.clone()),
                None => new.set_labels.remove(key),
            };
        }
        size::check_labels("node", name, &new.set_labels)?;
        if new == *node {
            return Ok(Applied::Done {
                revision: node.revision,
            });
        }
        new.revision = entry.revision;
        if new.accepts() && !node.accepts() {
            new.steady_since = entry.at;
        }
        let (id, drained) = (
            node.id,
            (new.drained != node.drained).then_some(new.drained),
        );
        let set = new.weight != node.weight || new.set_labels != node.set_labels;
        let (name, weight) = (name.clone(), new.weight);
        self.nodes.insert(id, new);
        if let Some(drained) = drained {
            self.note(
                entry,
                What::NodeDrained {
                    node: id,
                    name: name.clone(),
                    drained,
                },
            );
        }
        if set {
            self.note(
                entry,
                What::NodeSet {
                    node: id,
                    name,
                    weight,
                },
            );
        }
        self.settle(entry);
        done(entry)
    }

    pub(super) fn remove_node(&mut self, entry: Entry, name: &Name) -> Outcome {
        let node = self
            .node_named(name)
            .ok_or_else(|| not_found("node", name))?;
        let busy = |why: &str| {
            Err(Rejection::NodeBusy {
                node: name.clone(),
                why: why.into(),
            })
        };
        if self.counts(node.id) {
            return busy("it is a voter");
        }
        if node.lease == Lease::Up {
            return busy("its lease is running");
        }
        let id = node.id;
        // Whoever was at home there is at home where he is now.
        let homeless: Vec<IpAddr> = self
            .allocations
            .iter()
            .filter(|(_, of)| of.home == Some(id))
            .map(|(address, _)| address)
            .collect();
        for address in homeless {
            self.change(address, |of| of.home = of.destination());
        }
        self.nodes.remove(&id);
        self.forget_sight_of(id);
        self.follow_hosts();
        self.index.names.remove(name);
        self.note(
            entry,
            What::NodeRemoved {
                node: id,
                name: name.clone(),
            },
        );
        done(entry)
    }

    pub(super) fn member_mut(&mut self, id: NodeId) -> Result<&mut Node, Rejection> {
        self.nodes.get_mut(&id).ok_or_else(|| Rejection::NotFound {
            kind: "node".into(),
            name: alloc::format!("with number {id}"),
        })
    }
}
