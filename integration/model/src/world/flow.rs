//! What flows without anybody's doing: datagrams, proposals, entries.

use super::{Host, Packet, World};
use crate::fault::{Fault, Kind, Place};
use crate::log::Entry;
use crate::mutant::Mutant;
use crate::scene::Scene;

/// Rounds after which a cluster that does not come to rest is taken for broken. Two or three are usual.
const ROUNDS: usize = 100;

impl World {
    /// One daemon's turn: takes what waited for it, judges, beats.
    pub(super) fn turn(&mut self, scene: &Scene, place: Place) {
        if !self.awake(place) {
            return;
        }
        let (mine, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|packet| packet.to == place);
        self.waiting = others;
        let mine: Vec<Packet> = mine;
        for packet in mine {
            self.arrive(scene, packet);
        }
        let now = self.now(scene, place);
        let stalls = self.faults.contains(&Fault::DiskStalls(place));
        let Host::Runs(node) = &mut self.hosts[place] else {
            return;
        };
        let beats = node.turn(now, stalls);
        for (to, datagram) in beats {
            let to = Self::place(scene, to);
            self.send(
                scene,
                Packet {
                    from: place,
                    to,
                    datagram,
                },
            );
        }
    }

    fn send(&mut self, scene: &Scene, packet: Packet) {
        let way = (packet.from, packet.to);
        if packet.from != packet.to {
            let catch = |fault: &&Fault| fault.holds_back(way, &packet.datagram);
            if let Some(fault) = self.faults.iter().find(catch).copied() {
                self.faults.remove(&fault);
                self.held.push(packet.clone());
                if !matches!(fault, Fault::Held { twice: true, .. }) {
                    return;
                }
            }
            if self.faults.iter().any(|fault| fault.stops(way.0, way.1)) {
                return;
            }
        }
        self.arrive(scene, packet);
    }

    /// A datagram is there. To a stopped daemon it waits, unless it is lost.
    pub(super) fn arrive(&mut self, scene: &Scene, packet: Packet) {
        if !self.awake(packet.to) {
            let keeps = Fault::Paused {
                node: packet.to,
                keeps: true,
            };
            if self.faults.contains(&keeps) {
                self.waiting.push(packet);
            }
            return;
        }
        let now = self.now(scene, packet.to);
        let sender = scene.logs().cluster().nodes()[packet.from];
        let Host::Runs(node) = &mut self.hosts[packet.to] else {
            return;
        };
        let answer = node.receive(now, sender, &packet.datagram);
        self.judge(scene);
        if let Some((_, datagram)) = answer {
            let (from, to) = (packet.to, packet.from);
            self.send(scene, Packet { from, to, datagram });
        }
    }

    /// Lets everything happen that nothing stands in the way of. Whoever has the address open hears of entries
    /// last: the worst order there is.
    pub(super) fn settle(&mut self, scene: &Scene) {
        for _ in 0..ROUNDS {
            let mut order: Vec<Place> = (0..self.hosts.len()).collect();
            order.sort_by_key(|place| self.opened(*place).is_some());
            let mut moved = false;
            for place in order {
                moved |= self.follow(scene, place);
            }
            for entry in std::mem::take(&mut self.proposals) {
                if self.faults.remove(&Fault::Late(Kind::of(entry))) {
                    self.late.push(entry);
                } else {
                    self.commit(scene, entry);
                }
                moved = true;
            }
            if !moved {
                return;
            }
        }
        self.restless();
    }

    /// A node applies what it can, and looks after each entry. `true` if anything came of it.
    fn follow(&mut self, scene: &Scene, place: Place) -> bool {
        if !self.awake(place) {
            return false;
        }
        let behind = self.behind(place);
        let mut moved = false;
        loop {
            let now = self.now(scene, place);
            let log = self.log.clone();
            let Host::Runs(node) = &mut self.hosts[place] else {
                return false;
            };
            let entries = node.look(now, &log, behind);
            for entry in entries {
                moved |= self.proposals.insert(entry);
            }
            self.judge(scene);
            let Host::Runs(node) = &mut self.hosts[place] else {
                return false;
            };
            let Some(next) = log.after(node.applied()).filter(|_| !behind) else {
                return moved;
            };
            node.apply(next);
            moved = true;
        }
    }

    /// Puts an entry into the log, if the state takes it.
    pub(super) fn commit(&mut self, scene: &Scene, entry: Entry) {
        let entry = self.forged(scene, entry);
        if let Some(log) = scene.logs().append(&self.log, entry) {
            self.needless(scene, entry);
            self.log = log;
            self.token_grows();
        }
    }

    /// What mutants make of an entry that is not bound to what it was meant for.
    fn forged(&self, scene: &Scene, entry: Entry) -> Entry {
        let running = |node| self.log.state().node(node).map(|node| node.epoch);
        match (scene.mutant, entry) {
            (Some(Mutant::JudgedByOldVoters), Entry::Down { node, epoch, .. }) => Entry::Down {
                node,
                epoch,
                membership: self.log.membership(),
            },
            (
                Some(Mutant::DownOfAnyLease),
                Entry::Down {
                    node, membership, ..
                },
            ) => Entry::Down {
                node,
                epoch: running(node).unwrap_or_default(),
                membership,
            },
            (Some(Mutant::ReleaseOfAnyToken), Entry::Released { node, token }) => {
                let token = self.log.allocation().map_or(token, |it| it.epoch);
                Entry::Released { node, token }
            }
            _ => entry,
        }
    }
}
