//! Seeded simulations of the protocol: lost, late, repeated and reordered datagrams, drifting clocks, pauses,
//! crashes with and without a fence on disk, membership changes. The judge sees true time and asks at every
//! step who may announce. Planted faults show that the judge would see.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::format;

use crate::command::{Command, Proposal};
use crate::id::{Epoch, NodeId};
use crate::lease::Profile;
use crate::lease::{Ack, Beat, Holder, Takeover, Timing, Verdict, Voter};
use crate::name::{Labels, Name};
use crate::node::{Interface, Lease, Prefix, Role};
use crate::pool::PoolSpec;
use crate::state::State;
use crate::time::{Instant, Millis, Span};
use crate::vip::{Families, VipSpec};

/// A rule of the protocol that is left out, to see that its absence is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    None,
    /// Support counts from the receipt of the answer.
    LeaseFromReceipt,
    /// One certificate is enough.
    OneCertificate,
    /// A fenced epoch is supported again.
    NoFence,
    /// A voter promises by its own lease, whatever the sender's.
    PromiseByOwnLease,
    /// The promise ends when the lease does, whatever the clocks.
    NoDriftMargin,
}

/// xorshift64*: the same seed gives the same history.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

#[derive(Clone, Debug)]
enum Message {
    Beat {
        seq: u64,
        epoch: Option<Epoch>,
        lease: Span,
        heard: u64,
        certificates: Vec<(NodeId, Epoch)>,
    },
    Ack(Ack),
}

struct Sim {
    id: NodeId,
    /// Nodes may differ: somebody is changing the profile, one after the other.
    timing: Timing,
    /// Clock rate, in parts per million off true time.
    ppm: i64,
    holder: Holder,
    voter: Voter,
    takeover: Takeover,
    /// How much of the log it has applied.
    view: State,
    applied: usize,
    disk: BTreeMap<NodeId, Epoch>,
    /// Fences on their way to the disk: (true time of arrival, fence).
    writing: Vec<(u64, NodeId, Epoch)>,
    next_beat: u64,
    /// Frozen or dead until this true time; dead ones restart.
    away_until: u64,
    restart: bool,
    /// The gate: the deadline last written, on its own clock. Survives a freeze and a crash of the daemon.
    gate: Instant,
    asked_up: u64,
}

pub(super) struct World {
    now: u64,
    dice: Dice,
    mutant: Mutant,
    nodes: Vec<Sim>,
    log: Vec<Proposal>,
    flying: Vec<(u64, NodeId, NodeId, Message)>,
    pub(super) handovers: u64,
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Applies an entry; the membership stands behind the whole set-up, so that every voter is in it.
fn apply(state: &mut State, index: u64, proposal: &Proposal) {
    let _outcome = state.apply(index, proposal);
    if state.voters().is_none() && state.vips().len() == 4 {
        let all: BTreeSet<NodeId> = state.nodes().keys().copied().collect();
        state.apply_membership(index, &[all]);
    }
}

impl World {
    pub(super) fn new(seed: u64, mutant: Mutant, voters: u64) -> Self {
        let mut world = Self {
            now: 10_000 * MS,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            mutant,
            nodes: Vec::new(),
            log: Vec::new(),
            flying: Vec::new(),
            handovers: 0,
        };
        let name = |i: u64| Name::new(&format!("n{i}")).unwrap();
        let peer = |i: u64| SocketAddr::from(([192, 0, 2, 1], 7400 + u16::try_from(i).unwrap()));
        world.commit(Command::Bootstrap {
            cluster: [0; 16],
            name: name(1),
            peer: peer(1),
            beat_key: [0; 32],
        });
        let token = [1; 32];
        world.commit(Command::PutJoinToken {
            token,
            role: Role::Voter,
            expires: Millis(u64::MAX),
            uses: 99,
        });
        for i in 2..=voters {
            world.commit(Command::Join {
                token,
                name: name(i),
                peer: peer(i),
                beat_key: [0; 32],
            });
        }
        let blocks = vec![
            "10.0.0.0/24"
                .parse::<ipnet::IpNet>()
                .map(crate::block::Block::Cidr)
                .unwrap(),
        ];
        let spec = PoolSpec {
            blocks,
            ..PoolSpec::default()
        };
        world.commit(Command::PutPool {
            name: name(0),
            labels: Labels::new(),
            spec,
            expect: Default::default(),
            care: crate::pool::Care::default(),
        });
        for i in 0..4 {
            let spec = VipSpec {
                families: Families::Ipv4,
                ..VipSpec::default()
            };
            world.commit(Command::PutVip {
                name: name(i),
                labels: Labels::new(),
                spec,
                expect: Default::default(),
            });
        }
        let state = world.replay();
        let ids: Vec<NodeId> = state.nodes().keys().copied().collect();
        for id in &ids {
            let ppm = world.dice.roll(1001) as i64 - 500;
            let profile = if world.dice.one_in(2) {
                Profile::Lan
            } else {
                Profile::Safe
            };
            let timing = profile.timing();
            let clock = Instant(0);
            world.nodes.push(Sim {
                id: *id,
                timing,
                ppm,
                holder: Holder::new(timing),
                voter: Voter::new(timing, clock, []),
                takeover: Takeover::default(),
                view: State::default(),
                applied: 0,
                disk: BTreeMap::new(),
                writing: Vec::new(),
                next_beat: 0,
                away_until: 0,
                restart: false,
                gate: Instant(0),
                asked_up: 0,
            });
        }
        for i in 0..world.nodes.len() {
            let boot = world.clock(i);
            world.nodes[i].voter = Voter::new(world.nodes[i].timing, boot, []);
        }
        world
    }

    fn commit(&mut self, command: Command) {
        self.log.push(Proposal {
            at: Millis(0),
            command,
            by: None,
        });
    }

    /// The membership entry stands behind the whole set-up, which is what the state starts from.
    fn replay(&self) -> State {
        let mut state = State::default();
        for (i, proposal) in self.log.iter().enumerate() {
            apply(&mut state, i as u64 + 1, proposal);
        }
        state
    }

    fn clock(&self, i: usize) -> Instant {
        let drift = (self.now as i128 * i128::from(self.nodes[i].ppm) / 1_000_000) as i64;
        Instant(self.now.saturating_add_signed(drift))
    }

    fn apply_log(&mut self, i: usize) {
        while self.nodes[i].applied < self.log.len() {
            // Mostly keeps up, sometimes lags behind.
            if self.dice.one_in(8) {
                break;
            }
            let now = self.clock(i);
            let proposal = self.log[self.nodes[i].applied].clone();
            let node = &mut self.nodes[i];
            node.applied += 1;
            apply(&mut node.view, node.applied as u64, &proposal);
            let own = node.view.node(node.id).map(|n| (n.lease, n.epoch));
            node.holder.set_epoch(
                own.filter(|(lease, _)| *lease == Lease::Up)
                    .map(|(_, epoch)| epoch),
            );
            if let Some((_, voters)) = node.view.voters() {
                node.holder.set_voters(voters);
            }
            let up = node
                .view
                .nodes()
                .values()
                .filter(|n| n.lease == Lease::Up)
                .map(|n| (n.id, n.epoch));
            node.voter.set_leases(now, up.collect::<Vec<_>>());
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if from != to && self.dice.one_in(12) {
            return;
        }
        let copies = 1 + u64::from(self.dice.one_in(20));
        for _ in 0..copies {
            let delay = if self.dice.one_in(25) {
                self.dice.roll(400) * MS
            } else {
                100 * US + self.dice.roll(3000) * US
            };
            let delay = if from == to { 0 } else { delay };
            self.flying
                .push((self.now + delay, from, to, message.clone()));
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let due: Vec<_> = {
            let away: BTreeMap<NodeId, bool> = self
                .nodes
                .iter()
                .map(|n| (n.id, now < n.away_until))
                .collect();
            let (due, later) = self
                .flying
                .drain(..)
                .partition(|(at, _, to, _)| *at <= now && !away[to]);
            self.flying = later;
            due
        };
        for (_, from, to, message) in due {
            let i = self.nodes.iter().position(|n| n.id == to).unwrap();
            let clock = self.clock(i);
            let mutant = self.mutant;
            let node = &mut self.nodes[i];
            match message {
                Message::Beat {
                    seq,
                    epoch,
                    lease,
                    heard,
                    certificates,
                } => {
                    for (lost, at) in certificates {
                        node.takeover.on_certificate(from, lost, at);
                    }
                    let Some(epoch) = epoch else { continue };
                    let beat = Beat {
                        seq,
                        epoch: Some(epoch),
                        lease: if mutant == Mutant::PromiseByOwnLease {
                            node.timing.lease
                        } else {
                            lease
                        },
                        heard,
                        ack: None,
                        certificates: Vec::new(),
                    };
                    let Some(mut verdict) = node.voter.on_beat(clock, from, &beat) else {
                        continue;
                    };
                    if mutant == Mutant::NoFence {
                        verdict = Verdict::Supported;
                    }
                    self.send(
                        to,
                        from,
                        Message::Ack(Ack {
                            seq,
                            epoch,
                            verdict,
                        }),
                    );
                }
                Message::Ack(ack) => {
                    if mutant == Mutant::LeaseFromReceipt {
                        // Pretends the beat was sent just now.
                        let seq = node.holder.beat(clock);
                        node.holder.on_ack(from, Ack { seq, ..ack });
                    }
                    let fenced = node.holder.on_ack(from, ack);
                    node.gate = node.holder.deadline();
                    if fenced && now > node.asked_up + 50 * MS {
                        node.asked_up = now;
                        self.node_up(to);
                    }
                }
            }
        }
    }

    fn node_up(&mut self, node: NodeId) {
        let prefixes = vec![Prefix {
            address: "10.0.0.1".parse().unwrap(),
            len: 16,
        }];
        let interfaces = vec![Interface {
            name: "eth0".into(),
            up: true,
            prefixes,
            mac: crate::node::Mac::default(),
        }];
        self.commit(Command::NodeUp {
            node,
            version: Default::default(),
            interfaces,
            labels: Labels::new(),
        });
    }

    fn run_node(&mut self, i: usize) {
        if self.now < self.nodes[i].away_until {
            return;
        }
        let clock = self.clock(i);
        if core::mem::take(&mut self.nodes[i].restart) {
            let node = &mut self.nodes[i];
            let fences: Vec<_> = node.disk.iter().map(|(n, e)| (*n, *e)).collect();
            node.voter = Voter::new(node.timing, clock, fences);
            node.holder = Holder::new(node.timing);
            node.takeover = Takeover::default();
            node.view = State::default();
            node.applied = 0;
            node.writing.clear();
        }
        self.apply_log(i);
        let now = self.now;
        let node = &mut self.nodes[i];
        let (done, rest): (Vec<_>, Vec<_>) =
            node.writing.drain(..).partition(|(at, ..)| *at <= now);
        node.writing = rest;
        for (_, lost, epoch) in done {
            node.disk.insert(lost, epoch);
            node.voter.fenced(lost, epoch);
        }
        let early = if self.mutant == Mutant::NoDriftMargin {
            8 * MS
        } else {
            0
        };
        for (lost, epoch) in node.voter.tick(Instant(clock.0 + early)) {
            let disk = 500 * US + self.dice.roll(20) * MS;
            self.nodes[i].writing.push((now + disk, lost, epoch));
        }
        let node = &mut self.nodes[i];
        if now >= node.next_beat {
            node.next_beat = now + node.timing.beat.0;
            let (id, epoch, certificates) = (
                node.id,
                node.holder.epoch(),
                node.voter.certificates().collect::<Vec<_>>(),
            );
            let seq = node.holder.beat(clock);
            if epoch.is_none() && now > node.asked_up + 200 * MS && node.view.voters().is_some() {
                node.asked_up = now;
                self.node_up(id);
            }
            let voters: Vec<_> = self.nodes[i].holder.voters().collect();
            for to in voters {
                let heard = self.nodes[i].holder.heard(to);
                self.send(
                    id,
                    to,
                    Message::Beat {
                        seq,
                        epoch,
                        lease: self.nodes[i].timing.lease,
                        heard,
                        certificates: certificates.clone(),
                    },
                );
            }
        }
        // Any node may be the one that leads; a stale one's entries are refused by apply.
        let node = &self.nodes[i];
        let mut due = node.takeover.due(&node.view);
        if self.mutant == Mutant::OneCertificate {
            due.extend(node.voter.certificates());
        }
        for (lost, epoch) in due {
            let now_up = self.replay().node(lost).map(|n| (n.lease, n.epoch));
            if now_up == Some((Lease::Up, epoch)) {
                self.handovers += 1;
                let membership = self.replay().voters().map_or(0, |(index, _)| index);
                self.commit(Command::NodeDown {
                    node: lost,
                    epoch,
                    membership,
                });
            }
        }
    }

    fn trouble(&mut self) {
        let i = self.dice.roll(self.nodes.len() as u64) as usize;
        if !self.dice.one_in(1500) || self.now < self.nodes[i].away_until {
            return;
        }
        self.nodes[i].away_until = self.now + self.dice.roll(600) * MS;
        self.nodes[i].restart = self.dice.one_in(2);
    }

    /// Who may announce each address at this very moment; two is the end of the promise.
    fn judge(&self) -> Result<(), std::string::String> {
        let mut announcing: BTreeMap<_, Vec<NodeId>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if self.clock(i) < node.gate {
                for (address, _) in node.view.held_by(node.id) {
                    announcing.entry(address).or_default().push(node.id);
                }
            }
        }
        match announcing.into_iter().find(|(_, by)| by.len() > 1) {
            Some((address, by)) => Err(format!(
                "{address} announced by {by:?} at {} ms",
                self.now / MS
            )),
            None => Ok(()),
        }
    }

    pub(super) fn run(&mut self, milliseconds: u64) -> Result<(), std::string::String> {
        for _ in 0..milliseconds {
            self.now += MS;
            self.trouble();
            self.deliver();
            for i in 0..self.nodes.len() {
                self.run_node(i);
                self.judge()?;
            }
        }
        Ok(())
    }
}
