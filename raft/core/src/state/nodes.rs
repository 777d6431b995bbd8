//! Nodes: join, lease, report, drain, leave.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::{Entry, State, done, not_found};
use crate::command::{Applied, Outcome};
use crate::event::{Cause, What};
use crate::id::{Epoch, NodeId};
use crate::name::{Labels, Name};
use crate::node::{Interface, Lease, Node, Role};
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
            labels: Labels::new(),
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
        };
        self.index.names.insert(name.clone(), id);
        self.nodes.insert(id, node);
        self.index.set_hosts(&self.nodes);
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
        node.labels = labels.clone();
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
        self.index.set_hosts(&self.nodes);
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
        node.interfaces = interfaces.to_vec();
        node.revision = entry.revision;
        self.index.set_hosts(&self.nodes);
        self.forget_old_voter_sets();
        self.settle(entry);
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
        for address in lost {
            self.pass_on(entry, address, Cause::NodeDown);
        }
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
        for (address, epoch) in addresses {
            let Some(allocation) = self.allocations.get(address) else {
                continue;
            };
            if allocation.holder != Some(id) || allocation.epoch != *epoch {
                continue; // said twice, or overtaken by a withdrawal
            }
            let cause = allocation.vacating.unwrap_or(Cause::Ineligible);
            self.pass_on(entry, *address, cause);
        }
        done(entry)
    }

    pub(super) fn set_drained(&mut self, entry: Entry, name: &Name, drained: bool) -> Outcome {
        let id = self
            .node_named(name)
            .ok_or_else(|| not_found("node", name))?
            .id;
        let node = self.member_mut(id)?;
        if node.drained == drained {
            return Ok(Applied::Done {
                revision: node.revision,
            });
        }
        node.drained = drained;
        node.revision = entry.revision;
        self.note(
            entry,
            What::NodeDrained {
                node: id,
                name: name.clone(),
                drained,
            },
        );
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
        if self
            .voter_sets
            .values()
            .any(|sets| sets.voters().contains(&node.id))
        {
            return busy("it is a voter");
        }
        if node.lease == Lease::Up {
            return busy("its lease is running");
        }
        let id = node.id;
        self.nodes.remove(&id);
        self.index.set_hosts(&self.nodes);
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

    fn member_mut(&mut self, id: NodeId) -> Result<&mut Node, Rejection> {
        self.nodes.get_mut(&id).ok_or_else(|| Rejection::NotFound {
            kind: "node".into(),
            name: alloc::format!("with number {id}"),
        })
    }
}
