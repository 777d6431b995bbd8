//! Everything that a node's beats decide: [`Holder`] and [`Voter`] joined. Datagrams, news and time in; datagrams, news
//! and one deadline out. The daemon's beat thread and the simulator only execute it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::timing::LONGEST;
use super::{
    Ack, Beat, Datagram, Effect, Event, Holder, OnQuorumLoss, Timing, Verdict, View, Voter,
};
use crate::id::{Epoch, NodeId};
use crate::time::{Instant, Span};

/// Certificates in one beat; it must fit a datagram. The rest travel in the next ones.
const CERTIFICATES: usize = 60;

/// A lease of at least this many beats can spare one.
const ROOMY: u64 = 6;

/// After news this many beats are taken as they come: the first answers to a new lease, certificates.
const RESTLESS: u64 = 4;
/// A node that was last heard before this many beats may be gone.
const QUIET: u64 = 2;
/// The beats of so many nodes find room in a socket until somebody takes them.
const FEW: usize = 32;

/// One node's beats.
#[derive(Clone, Debug)]
pub struct Pulse {
    me: NodeId,
    timing: Timing,
    on_loss: OnQuorumLoss,
    holder: Holder,
    voter: Voter,
    votes: bool,
    membership: u64,
    next_beat: Instant,
    held: bool,
    /// Until when this node announces without a majority; see [`OnQuorumLoss::Freeze`].
    frozen: Option<Instant>,
    /// Voters that have said to have fenced this node's present lease.
    fenced_by: BTreeSet<NodeId>,
    /// Answers that travel with this node's next beat to the voter that they are for.
    unsent: BTreeMap<NodeId, Ack>,
    /// The lease of each node that this voter last supported.
    supporting: BTreeMap<NodeId, Epoch>,
    /// What each voter was last heard to certify, so that news is told once.
    certified: BTreeMap<(NodeId, NodeId), Epoch>,
    /// Members whose lease has another length.
    differing: BTreeSet<NodeId>,
    /// Which certificates the next beat begins with.
    turn: usize,
    /// Nothing is calm before.
    restless: Instant,
}

impl Pulse {
    /// A node that starts at `now` with the fences its disk holds.
    #[must_use]
    pub fn new(
        me: NodeId,
        timing: Timing,
        on_loss: OnQuorumLoss,
        now: Instant,
        on_disk: impl IntoIterator<Item = (NodeId, Epoch)>,
    ) -> Self {
        let mut holder = Holder::new(timing);
        holder.number_from(now);
        Self {
            me,
            timing,
            on_loss,
            holder,
            voter: Voter::new(timing, now, on_disk),
            votes: false,
            membership: 0,
            next_beat: now,
            held: false,
            frozen: None,
            fenced_by: BTreeSet::new(),
            unsent: BTreeMap::new(),
            supporting: BTreeMap::new(),
            certified: BTreeMap::new(),
            differing: BTreeSet::new(),
            turn: 0,
            restless: now,
        }
    }

    /// Until when this node may announce.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.holder.deadline().max(self.frozen.unwrap_or_default())
    }

    /// The membership entry by whose voters [`Pulse::deadline`] is reckoned: what the node may tell the cluster to have
    /// applied, once it has made the deadline known to its kernel.
    #[must_use]
    pub fn membership(&self) -> u64 {
        self.membership
    }

    /// Whether a majority of voters has answered this node's beats within the last lease, be it with a refusal.
    #[must_use]
    pub fn answered(&self, now: Instant) -> bool {
        self.holder.answered(now)
    }

    /// When [`Pulse::tick`] next has something to do, if no datagram comes before.
    #[must_use]
    pub fn next_tick(&self) -> Instant {
        let voter = self.votes.then(|| self.voter.next_tick()).flatten();
        voter.map_or(self.next_beat, |tick| tick.min(self.next_beat))
    }

    /// Whether datagrams may lie until [`Pulse::next_tick`]: this node is well supported, every node with a lease was heard
    /// a moment ago, and nothing has changed just now. Then what arrives says but that nothing happened, and the promises
    /// that it renews count from when it *arrived*, not from when it is taken.
    ///
    /// An answer that travels with a beat was given just before that beat was sent, so it is as fresh as one that is
    /// taken at once; and as soon as anybody misses a beat or two, everything is taken as it comes.
    #[must_use]
    pub fn calm(&self, now: Instant) -> bool {
        let quiet = Span(QUIET * self.timing.beat.0);
        let heard = !self.votes || self.voter.heard_all_but(self.me, now, quiet, FEW);
        let supported = self.holder.deadline().since(now) > Span(self.timing.lease.0 / 2);
        let stretched = self.timing.lease == LONGEST;
        now >= self.restless
            && heard
            && supported
            && !stretched
            && self.frozen.is_none()
            && self.fenced_by.is_empty()
    }

    /// Takes what the cluster looks like now.
    pub fn set_view(&mut self, now: Instant, view: &View, out: &mut Vec<Effect>) {
        self.restless = now.after(Span(RESTLESS * self.timing.beat.0));
        if self.holder.epoch() != view.epoch {
            self.fenced_by.clear();
            if view.epoch.is_some() {
                // A new lease is of use only once it is supported.
                self.next_beat = now.min(self.next_beat);
            } else {
                self.thaw(out);
            }
        }
        self.holder.set_epoch(view.epoch);
        if let Some(voters) = &view.voters {
            self.holder.set_voters(voters);
        }
        self.votes = view.votes;
        self.membership = view.membership;
        self.voter.set_leases(now, view.leases.iter().copied());
        let running: BTreeMap<NodeId, Epoch> = view.leases.iter().copied().collect();
        self.certified
            .retain(|(_, node), epoch| running.get(node).is_some_and(|now| now <= epoch));
        // A fence of an earlier life certifies a lease that is still running by the log.
        if self.votes {
            let own: Vec<_> = self.voter.certificates().collect();
            for (node, epoch) in own {
                self.note_certificate(self.me, node, epoch, out);
            }
        }
    }

    /// The fence that [`Event::Fencing`] asked for is on the disk.
    pub fn fence_on_disk(
        &mut self,
        now: Instant,
        node: NodeId,
        epoch: Epoch,
        out: &mut Vec<Effect>,
    ) {
        self.voter.fenced(node, epoch);
        self.note_certificate(self.me, node, epoch, out);
        // At once: a leader may be waiting for it.
        self.next_beat = now.min(self.next_beat);
    }

    /// Takes a datagram that `from` has sealed and that arrived `at`; or any time after that, which makes promises longer
    /// than they need be.
    pub fn on_datagram(
        &mut self,
        at: Instant,
        from: NodeId,
        datagram: Datagram,
        out: &mut Vec<Effect>,
    ) {
        match datagram {
            Datagram::Beat { beat } => self.on_beat(at, from, &beat, out),
            Datagram::Ack { ack } => self.on_ack(from, ack, out),
        }
    }

    /// Judges the silent, beats if it is time, and sees whether the lease holds. Call it when [`Pulse::next_tick`] has
    /// come, and only after every datagram that has arrived was taken. Returns how late a beat was, if one was sent.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Effect>) -> Option<Span> {
        if self.votes {
            for (node, epoch) in self.voter.tick(now) {
                out.push(Effect::Tell(Event::Fencing { node, epoch }));
            }
        }
        let late = (now >= self.next_beat).then(|| self.beat(now, out));
        let held = now < self.deadline();
        if held != self.held {
            self.held = held;
            out.push(Effect::Tell(Event::Support { held }));
        }
        late
    }

    /// From now on asks for the longest lease there is, so that this node's right to announce outlives a restart of its
    /// daemon. The price: if the host dies meanwhile, it is replaced later by as much.
    pub fn stretch(&mut self, now: Instant) {
        self.holder.set_lease(LONGEST);
        self.timing.lease = LONGEST;
        self.next_beat = now;
    }

    /// The clock has jumped, so nothing that was reckoned by it holds: silent until a majority supports anew; and nobody
    /// is judged by what was not heard meanwhile.
    pub fn clock_jumped(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let epoch = self.holder.epoch();
        self.holder.set_epoch(None);
        self.holder.set_epoch(epoch);
        self.thaw(out);
        self.voter.clock_jumped(now);
        self.next_beat = now;
    }

    fn on_beat(&mut self, at: Instant, from: NodeId, beat: &Beat, out: &mut Vec<Effect>) {
        if beat.lease != self.timing.lease && beat.lease != LONGEST && self.differing.insert(from) {
            let (node, lease) = (from, beat.lease);
            out.push(Effect::Tell(Event::OtherLease { node, lease }));
        }
        // It counts on answers within a few of its own beats, which are shorter than this node's.
        if beat.lease < Span(ROOMY * self.timing.beat.0) {
            let until = at.after(Span(RESTLESS * self.timing.beat.0));
            self.restless = self.restless.max(until);
        }
        for (node, epoch) in &beat.certificates {
            self.note_certificate(from, *node, *epoch, out);
        }
        if let Some(ack) = beat.ack {
            self.on_ack(from, ack, out);
        }
        let (true, Some(epoch)) = (self.votes, beat.epoch) else {
            return;
        };
        let Some(verdict) = self.voter.on_beat(at, from, beat) else {
            return;
        };
        let ack = Ack {
            seq: beat.seq,
            epoch,
            verdict,
        };
        if from == self.me {
            self.on_ack(from, ack, out);
        } else if self.may_wait(from, beat, ack) {
            self.unsent.insert(from, ack);
        } else {
            self.unsent.remove(&from);
            let datagram = Datagram::Ack { ack };
            out.push(Effect::Send { to: from, datagram });
        }
    }

    /// Whether an answer may travel with the next beat, which halves the datagrams: to a voter, which is sent beats anyway,
    /// and when it says nothing new. It costs a beat's length of what is left of the receiver's lease, so not when that is
    /// a few beats only.
    fn may_wait(&mut self, to: NodeId, beat: &Beat, ack: Ack) -> bool {
        let supported = ack.verdict == Verdict::Supported;
        let known = if supported {
            self.supporting.insert(to, ack.epoch) == Some(ack.epoch)
        } else {
            self.supporting.remove(&to);
            false
        };
        let roomy = beat.lease.0 >= ROOMY * self.timing.beat.0;
        known && roomy && self.holder.voters().any(|voter| voter == to)
    }

    fn on_ack(&mut self, from: NodeId, ack: Ack, out: &mut Vec<Effect>) {
        if self.holder.on_ack(from, ack) {
            self.fenced_by.insert(from);
            if !self.may_freeze() {
                self.thaw(out);
            }
            out.push(Effect::Tell(Event::OwnLeaseFenced { epoch: ack.epoch }));
        } else if ack.verdict == Verdict::Supported {
            self.fenced_by.remove(&from);
        }
    }

    fn beat(&mut self, now: Instant, out: &mut Vec<Effect>) -> Span {
        let late = now.since(self.next_beat);
        // From the plan, not from now, so that lateness does not add up; but never two at once.
        self.next_beat = self.next_beat.after(self.timing.beat);
        if self.next_beat <= now {
            self.next_beat = now.after(self.timing.beat);
        }
        let certificates = self.next_certificates();
        let seq = self.holder.beat(now);
        let voters: Vec<NodeId> = self.holder.voters().collect();
        for voter in voters {
            let beat = Beat {
                seq,
                epoch: self.holder.epoch(),
                lease: self.timing.lease,
                heard: self.holder.heard(voter),
                ack: self.unsent.remove(&voter),
                certificates: certificates.clone(),
            };
            if voter == self.me {
                self.on_beat(now, voter, &beat, out);
            } else {
                let datagram = Datagram::Beat { beat };
                out.push(Effect::Send {
                    to: voter,
                    datagram,
                });
            }
        }
        self.freeze_if_asked(now, out);
        late
    }

    fn next_certificates(&mut self) -> Vec<(NodeId, Epoch)> {
        if !self.votes {
            return Vec::new();
        }
        let all: Vec<_> = self.voter.certificates().collect();
        let from = self.turn.min(all.len());
        let next = all.iter().cycle().skip(from);
        let next = next.take(all.len().min(CERTIFICATES)).copied().collect();
        self.turn = if all.len() > CERTIFICATES {
            (from + CERTIFICATES) % all.len()
        } else {
            0
        };
        next
    }

    /// Without a majority by the time of the beat after the next: go on for another lease, if that is asked for. A daemon
    /// that hangs is fenced by its kernel all the same.
    fn freeze_if_asked(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let supported = self.holder.deadline();
        let soon = now.after(Span(2 * self.timing.beat.0));
        if supported > soon {
            self.thaw(out);
        } else if self.on_loss == OnQuorumLoss::Freeze
            && now < self.deadline()
            && self.may_freeze()
            && self.frozen.replace(now.after(self.timing.lease)).is_none()
        {
            out.push(Effect::Tell(Event::Frozen { frozen: true }));
        }
    }

    /// Nobody can have taken over: that needs a majority of every voter set that this node may count by.
    fn may_freeze(&self) -> bool {
        self.holder.epoch().is_some()
            && !self
                .holder
                .majority(|voter| self.fenced_by.contains(&voter))
    }

    fn thaw(&mut self, out: &mut Vec<Effect>) {
        if self.frozen.take().is_some() {
            out.push(Effect::Tell(Event::Frozen { frozen: false }));
        }
    }

    fn note_certificate(
        &mut self,
        voter: NodeId,
        node: NodeId,
        epoch: Epoch,
        out: &mut Vec<Effect>,
    ) {
        let known = self.certified.entry((voter, node)).or_default();
        if epoch > *known {
            *known = epoch;
            out.push(Effect::Tell(Event::Certified { voter, node, epoch }));
        }
    }
}
