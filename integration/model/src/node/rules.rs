//! What a node makes of the state it has applied: the daemon's loop in short (`daemon/vipd/src/node`).

use vipd_core::id::{Epoch, NodeId};
use vipd_core::node::Lease;
use vipd_core::time::{Instant, Span};

use super::Node;
use crate::log::{Entry, Log};
use crate::mutant::Mutant;

impl Node {
    /// Looks at the state applied: tells the datapath, then the beats, and returns what it proposes. `newest` is the
    /// whole log, for mutants that know too much too early; `stalls`: this node is behind.
    pub fn look(&mut self, now: Instant, newest: &Log, stalls: bool) -> Vec<Entry> {
        let applied = self.applied.clone();
        self.takeover.forget_settled(applied.state());
        if self
            .given_back
            .is_some_and(|token| !self.holds(&applied, token))
        {
            self.given_back = None;
        }
        let mut entries = Vec::new();
        let due = self.due();
        let gates_stall = self.mutant == Some(Mutant::BeatsBeforeGates) && stalls;
        if gates_stall {
            self.tell_beats(now, newest);
        } else {
            self.tell_gates(now, &due);
            self.tell_beats(now, &applied);
        }
        let membership = applied.membership();
        entries.extend(due.into_iter().map(|(node, epoch)| Entry::Down {
            node,
            epoch,
            membership,
        }));
        if self.caught_up() {
            entries.extend(self.own_record(now, newest));
            entries.extend(self.release());
        }
        entries.retain(|entry| !self.asked.contains(entry));
        self.asked.extend(entries.iter().copied());
        entries
    }

    fn caught_up(&self) -> bool {
        self.applied.index() >= self.goal || self.mutant == Some(Mutant::OpensBeforeCaughtUp)
    }

    fn holds(&self, log: &Log, token: Epoch) -> bool {
        log.allocation()
            .is_some_and(|it| it.holder == Some(self.me) && it.epoch == token)
    }

    fn due(&self) -> Vec<(NodeId, Epoch)> {
        match self.mutant {
            Some(Mutant::OneCertificate) => {
                let running = |node| self.applied.state().node(node).map(|n| (n.lease, n.epoch));
                let own = self.voter.certificates();
                own.filter(|(node, epoch)| running(*node) == Some((Lease::Up, *epoch)))
                    .collect()
            }
            _ => self.takeover.due(self.applied.judged()),
        }
    }

    /// Until it is known what shall be open, what an earlier life left so stays so, and the deadline stays.
    fn tell_gates(&mut self, now: Instant, due: &[(NodeId, Epoch)]) {
        let supported = now < self.holder.deadline();
        let young = now.since(self.began) <= Span(4 * self.timing.lease.0);
        let patient = young && (!self.armed || self.mutant == Some(Mutant::PatientForLong));
        if !self.caught_up() || (!supported && patient) {
            return;
        }
        let state = self.applied.state();
        let running = state
            .node(self.me)
            .is_some_and(|node| node.lease == Lease::Up);
        self.remains.kernel.open = self.applied.allocation().and_then(|it| {
            let asked_back = it.vacating.is_some() || self.given_back == Some(it.epoch);
            let shuts_late = self.mutant == Some(Mutant::ReleasedBeforeShut);
            let mine = it.holder == Some(self.me) && (!asked_back || shuts_late);
            let early = self.mutant == Some(Mutant::OpensBeforeEntry)
                && due.iter().any(|(lost, _)| it.holder == Some(*lost))
                && state
                    .allocations()
                    .keys()
                    .any(|address| state.runner_up(address) == Some(self.me));
            ((mine || early) && running && supported).then_some(it.epoch)
        });
        self.armed = true;
    }

    /// A new lease gathers support only after the gates are right.
    fn tell_beats(&mut self, now: Instant, log: &Log) {
        if self.beats_know == log.index() {
            return;
        }
        self.beats_know = log.index();
        let state = log.state();
        let own = state.node(self.me);
        self.holder.set_epoch(
            own.filter(|node| self.caught_up() && node.lease == Lease::Up)
                .map(|node| node.epoch),
        );
        if let Some((_, voters)) = state.voters() {
            self.holder.set_voters(voters);
            self.votes = match self.mutant {
                Some(Mutant::RemovedStops) => voters.voters().contains(&self.me),
                _ => state.counts(self.me),
            };
        }
        let running = state
            .nodes()
            .values()
            .filter(|node| node.lease == Lease::Up);
        self.voter
            .set_leases(now, running.map(|node| (node.id, node.epoch)));
        if self.votes {
            for (node, epoch) in self.voter.certificates() {
                self.takeover.on_certificate(self.me, node, epoch);
            }
        }
        self.write_deadline();
    }

    fn own_record(&self, now: Instant, newest: &Log) -> Option<Entry> {
        let node = self.applied.state().node(self.me)?;
        if node.lease != Lease::Up || self.fenced == Some(node.epoch) {
            return Some(Entry::Up(self.me));
        }
        let inherits = now < self.inherited;
        let membership = match self.mutant {
            Some(Mutant::ReportsBeforeCounting) => newest.membership(),
            Some(Mutant::ReportsWhileYoung) => self.applied.membership(),
            _ if inherits => 0,
            _ => self.applied.membership(),
        };
        (node.membership < membership).then_some(Entry::Report {
            node: self.me,
            membership,
        })
    }

    /// Only what the datapath has shut may be given back.
    fn release(&mut self) -> Option<Entry> {
        let allocation = self.applied.allocation()?;
        let asked = allocation.holder == Some(self.me) && allocation.vacating.is_some();
        let shut = self.remains.kernel.open.is_none() && self.armed;
        if !asked || !(shut || self.mutant == Some(Mutant::ReleasedBeforeShut)) {
            return None;
        }
        self.given_back = Some(allocation.epoch);
        Some(Entry::Released {
            node: self.me,
            token: allocation.epoch,
        })
    }
}
