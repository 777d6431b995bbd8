//! The state under test: a cluster that checks its invariants after every command.

mod aside;
mod backup;
mod failback;
mod groups;
mod ipam;
mod journal;
mod notices;
mod old;
mod once;
mod order;
mod policies;
mod proofs;
mod random;
mod rebalance;
mod reference;
mod services;
mod sharing;
mod sight;
mod size;
mod speed;
mod stories;
mod tokens;
mod traffic;
mod weights;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use std::format;

use super::State;
use crate::block::{Block, Family};
use crate::codec::Wire;
use crate::command::{Applied, Command, Expect, Outcome, Proposal};
use crate::id::{NodeId, Revision};
use crate::name::{Labels, Name};
use crate::node::{Interface, Prefix, Role, Weight};
use crate::pool::PoolSpec;
use crate::time::Millis;
use crate::vip::{Failback, Families, VipSpec};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A state with a log: applies, checks the invariants, remembers.
#[derive(Default)]
struct Cluster {
    state: State,
    log: Vec<Proposal>,
}

impl Cluster {
    /// One bootstrapped node `n1` and `n - 1` joined ones, all up on 10.0.0.0/16 and fd00::/64.
    fn of(n: u64) -> Self {
        let mut cluster = Self::joined(n);
        for id in cluster.ids() {
            cluster.up(id);
        }
        cluster
    }

    /// The same before they have come up.
    fn joined(n: u64) -> Self {
        let mut cluster = Self::default();
        let peer = |i: u64| SocketAddr::from(([192, 0, 2, u8::try_from(i).unwrap()], 7400));
        cluster
            .apply(Command::Bootstrap {
                cluster: [7; 16],
                name: name("n1"),
                peer: peer(1),
                beat_key: [1; 32],
            })
            .unwrap();
        let token = [9; 32];
        cluster
            .apply(Command::PutJoinToken {
                token,
                role: Role::Voter,
                expires: Millis(1_000_000),
                uses: 100,
            })
            .unwrap();
        for i in 2..=n {
            let join = Command::Join {
                token,
                name: name(&format!("n{i}")),
                peer: peer(i),
                beat_key: [1; 32],
            };
            cluster.apply(join).unwrap();
        }
        cluster
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let index = self.state.applied() + 1;
        self.apply_at(Millis(index * 10), command)
    }

    fn apply_at(&mut self, at: Millis, command: Command) -> Outcome {
        let index = self.state.applied() + 1;
        let proposal = Proposal {
            at,
            command,
            by: None,
        };
        let before = self.state.clone();
        let outcome = self.state.apply(index, &proposal);
        if outcome.is_err() {
            let mut before = before.clone();
            before.apply_blank(index);
            assert_eq!(
                before.to_bytes(),
                self.state.to_bytes(),
                "a refusal changes nothing: {proposal:?}"
            );
        }
        self.moved_only_where_it_may(&before, &proposal.command);
        self.handed_to_nobody_else(&before, &proposal.command);
        self.proven_by_its_holder_alone(&before, &proposal.command);
        self.all_changes_are_noted(&before, &proposal.command);
        self.log.push(proposal);
        if let Err(broken) = self.state.check() {
            panic!("{broken} after {:?}", self.log.last());
        }
        outcome
    }

    /// A new allocation is unproven; one that may be announced stays so, whatever is said later; and nothing but its
    /// holder's word changes what is known of one.
    fn proven_by_its_holder_alone(&self, before: &State, command: &Command) {
        use crate::event::What;
        use crate::proof::Proof;

        let entry = Revision(self.state.applied());
        let new = self.state.events().iter().rev();
        let new = new.take_while(|event| event.revision == entry);
        let freed: Vec<IpAddr> = new
            .filter_map(|event| match event.what {
                What::Freed { address, .. } => Some(address),
                _ => None,
            })
            .collect();
        for (address, now) in self.state.allocations().iter() {
            let then = before.allocations().get(&address);
            // What is freed may be given to somebody else by the same entry.
            let Some(then) = then.filter(|_| !freed.contains(&address)) else {
                assert_eq!(now.proof, Proof::Unproven, "{address} by {command:?}");
                continue;
            };
            let silenced = then.proof.lets_announce() && !now.proof.lets_announce();
            assert!(!silenced, "{address} by {command:?}");
            let told = |node: &NodeId, found: &[crate::proof::Found]| {
                let asked = found
                    .iter()
                    .any(|found| found.address == address && found.epoch == then.epoch);
                then.holder == Some(*node) && asked
            };
            let may = matches!(command, Command::Probed { node, found } if told(node, found));
            assert!(may || now.proof == then.proof, "{address} by {command:?}");
        }
    }

    /// Whom the holder may be handing packets to becomes the next holder, and nobody else does while its lease runs.
    fn handed_to_nobody_else(&self, before: &State, command: &Command) {
        for (address, was) in before.allocations().iter() {
            let runs = |next: &NodeId| {
                before
                    .node(*next)
                    .is_some_and(|n| n.lease == crate::node::Lease::Up)
            };
            let Some(next) = was.next.filter(|_| was.vacating.is_some()).filter(runs) else {
                continue;
            };
            if matches!(command, Command::NodeDown { node, .. } if *node == next) {
                continue;
            }
            let Some(is) = self.state.allocations().get(&address) else {
                panic!("{address} was freed while it was handed to {next}");
            };
            let arrived = is.holder == Some(next);
            let under_way = is.holder == was.holder && is.next == was.next && is.vacating.is_some();
            assert!(arrived || under_way, "{address}: {was:?} {is:?}");
        }
    }

    /// What is given an address accepts addresses; and nothing leaves a node that may keep it, unless somebody asked
    /// for that or it belongs with others.
    fn moved_only_where_it_may(&self, before: &State, command: &Command) {
        let asked = matches!(
            command,
            Command::MoveVip { .. }
                | Command::Rebalance
                | Command::PutVip { .. }
                | Command::DeleteVip { .. }
                | Command::Restore { .. }
        );
        for (address, now) in self.state.allocations().iter() {
            let Some(then) = before.allocations().get(&address) else {
                continue;
            };
            let (from, to) = (then.destination(), now.destination());
            if from == to || now.freeing {
                continue;
            }
            if let Some(node) = to.and_then(|to| self.state.node(to)) {
                assert!(
                    node.accepts() || then.holder == to,
                    "{address} given to {} by {command:?}",
                    node.name
                );
            }
            let free = self.state.vips().get(&now.vip).is_some_and(|vip| {
                vip.spec.group.is_none() && vip.spec.failback == Failback::Never && !now.freeing
            });
            let given = self.state.given(address);
            if let (Some(from), true, false) = (from, free, asked) {
                let blind = now
                    .vips()
                    .any(|vip| self.state.blind_to(vip).any(|node| node == from));
                assert!(
                    blind || !given.is_some_and(|given| self.state.keeps(from, given)),
                    "{address} left node {from}, which could keep it, by {command:?}"
                );
            }
        }
    }

    /// Lets time pass: the entries of a test are 10 ms apart.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.state.apply_blank(self.state.applied() + 1);
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.state.nodes().keys().copied().collect()
    }

    fn id(&self, node: &str) -> NodeId {
        self.state.node_named(&name(node)).unwrap().id
    }

    fn up(&mut self, node: NodeId) {
        let interfaces = subnets(true);
        self.apply(Command::NodeUp {
            node,
            version: String::new(),
            interfaces,
            labels: Labels::new(),
        })
        .unwrap();
    }

    fn down(&mut self, node: NodeId) -> Outcome {
        let epoch = self.state.node(node).unwrap().epoch;
        let membership = self.state.voters().map_or(0, |(index, _)| index);
        self.apply(Command::NodeDown {
            node,
            epoch,
            membership,
        })
    }

    fn pool(&mut self, pool: &str, blocks: &[&str]) -> Outcome {
        let blocks = blocks
            .iter()
            .map(|block| Block::parse(block).unwrap())
            .collect();
        let spec = PoolSpec {
            blocks,
            ..PoolSpec::default()
        };
        self.apply(Command::PutPool {
            name: name(pool),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
            care: crate::pool::Care::default(),
        })
    }

    fn vip(&mut self, vip: &str, spec: VipSpec) -> Outcome {
        self.apply(Command::PutVip {
            name: name(vip),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
        })
    }

    fn holder(&self, address: &str) -> Option<NodeId> {
        self.state.allocations()[&ip(address)].holder
    }

    /// The holders of vacating addresses let go, as their daemons would.
    fn release_all(&mut self) {
        for id in self.ids() {
            let vacating: Vec<_> = self
                .state
                .held_by(id)
                .filter(|(_, a)| a.vacating.is_some())
                .map(|(ip, a)| (ip, a.epoch))
                .collect();
            if !vacating.is_empty() {
                self.apply(Command::Released {
                    node: id,
                    addresses: vacating,
                })
                .unwrap();
            }
        }
    }

    fn addresses(&self, vip: &str) -> Vec<String> {
        self.state.vips()[&name(vip)]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn move_to(&mut self, vip: &str, to: &str) -> Outcome {
        self.apply(Command::MoveVip {
            name: name(vip),
            to: name(to),
        })
    }

    fn drain(&mut self, node: &str, drained: bool) {
        self.apply(Command::SetDrained {
            node: name(node),
            drained,
        })
        .unwrap();
    }

    fn weigh(&mut self, node: &str, weight: u8) {
        self.apply(Command::SetNode {
            node: name(node),
            weight: Some(Weight::new(weight).unwrap()),
            labels: [].into(),
            drained: None,
            expect: Expect::Any,
        })
        .unwrap();
    }

    /// Who holds the VIP's first address, by name.
    fn at(&self, vip: &str) -> Option<String> {
        let holder = self.holder(&self.addresses(vip)[0])?;
        Some(self.state.node(holder)?.name.to_string())
    }

    /// How many addresses each node holds, in the order they joined.
    fn loads(&self) -> Vec<usize> {
        let ids = self.ids().into_iter();
        ids.map(|id| self.state.held_by(id).count()).collect()
    }

    /// Asks for a VIP that does not get all that it asks for, and says why.
    fn waits(&mut self, vip: &str, spec: VipSpec) -> &'static str {
        self.vip(vip, spec).unwrap();
        self.waiting_for(vip).expect("it waits for something")
    }

    /// Why a VIP waits, if it does.
    fn waiting_for(&self, vip: &str) -> Option<&'static str> {
        let unmet = self.state.vips()[&name(vip)].unmet.first();
        unmet.map(|unmet| unmet.why.reason())
    }

    fn refusal(outcome: Outcome) -> &'static str {
        outcome.unwrap_err().reason()
    }
}

fn subnets(up: bool) -> Vec<Interface> {
    let prefixes = vec![
        Prefix {
            address: ip("10.0.255.1"),
            len: 16,
        },
        Prefix {
            address: ip("fd00::ffff"),
            len: 64,
        },
    ];
    vec![Interface {
        name: "eth0".into(),
        up,
        prefixes,
        mac: crate::node::Mac::default(),
    }]
}

fn v4() -> VipSpec {
    VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    }
}

fn dual() -> VipSpec {
    VipSpec {
        families: Families::RequireDual,
        ..VipSpec::default()
    }
}
