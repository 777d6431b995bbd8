//! One node: the real [`Holder`], [`Voter`] and [`Takeover`], in a shell that follows the daemon's rules.
//!
//! The shell is the part of the model that is *not* the daemon's code. It has its rules: what the datapath is told
//! and when, when the deadline is moved, what is proposed; and it is where mutants leave one out.

mod rules;

use std::collections::BTreeMap;

use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::{Ack, Beat, Datagram, Holder, Takeover, Timing, Verdict, Voter};
use vipd_core::time::{Instant, Span};

use crate::clock::{timing, without_margin};
use crate::log::{Entry, Log};
use crate::mutant::Mutant;

/// What the kernel of a node holds; it outlives the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The node answers until then, by its own clock.
    pub deadline: Instant,
    /// The token under which the address is open.
    pub open: Option<Epoch>,
}

/// What an earlier life of a node leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remains {
    /// Fences on disk.
    pub disk: BTreeMap<NodeId, Epoch>,
    /// What the kernel holds.
    pub kernel: Kernel,
}

/// A node that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    me: NodeId,
    timing: Timing,
    mutant: Option<Mutant>,
    holder: Holder,
    voter: Voter,
    takeover: Takeover,
    remains: Remains,
    /// Fences on their way to a disk that stalls.
    writing: Vec<(NodeId, Epoch)>,
    applied: Log,
    /// It has caught up once it has applied this entry.
    goal: u64,
    began: Instant,
    /// The deadline that an earlier life left in the kernel.
    inherited: Instant,
    /// The entry whose state the beats were last told, and whether this node votes by it.
    beats_know: u64,
    votes: bool,
    /// The deadline last reckoned, and whether it may be written to the kernel.
    deadline: Instant,
    armed: bool,
    /// Its lease that some voter has fenced.
    fenced: Option<Epoch>,
    /// The token that it has given back.
    given_back: Option<Epoch>,
    /// What it has proposed since it last applied an entry.
    asked: Vec<Entry>,
    newest_beat: u64,
    judged: Instant,
}

impl Node {
    /// A node that starts at `now`, with what its earlier life left, and knows of `applied`. It has caught up once
    /// it has applied entry `goal`.
    #[must_use]
    pub fn start(
        me: NodeId,
        lease: Span,
        mutant: Option<Mutant>,
        now: Instant,
        remains: Remains,
        applied: Log,
        goal: u64,
    ) -> Self {
        let timing = timing(lease);
        let voter_timing = match mutant {
            Some(Mutant::NoDriftMargin) => crate::clock::timing(without_margin(lease)),
            _ => timing,
        };
        let mut born = now;
        if mutant == Some(Mutant::NoBootWait) {
            born = Instant(now.0 - timing.boot_wait().0);
        }
        let mut node = Self {
            me,
            timing,
            mutant,
            holder: Holder::new(timing),
            inherited: remains.kernel.deadline,
            voter: Voter::new(
                voter_timing,
                born,
                remains.disk.iter().map(|(node, epoch)| (*node, *epoch)),
            ),
            takeover: Takeover::default(),
            remains,
            writing: Vec::new(),
            applied,
            goal,
            began: now,
            beats_know: 0,
            votes: false,
            deadline: Instant(0),
            armed: false,
            fenced: None,
            given_back: None,
            asked: Vec::new(),
            newest_beat: 0,
            judged: born,
        };
        if born < now {
            // In steps, so that it takes its pretended past for one that it was awake in.
            node.judge_in_steps(now);
        }
        node
    }

    /// What is left of it when it crashes. A fence on its way to the disk may or may not have got there.
    #[must_use]
    pub fn crash(mut self, written: bool) -> Remains {
        if written {
            self.disk_goes_on();
        }
        self.remains
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// Its kernel.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.remains.kernel
    }

    /// What it has applied.
    #[must_use]
    pub fn applied(&self) -> &Log {
        &self.applied
    }

    /// Applies the next entry.
    pub fn apply(&mut self, log: Log) {
        self.applied = log;
        self.asked.clear();
    }

    /// The beat thread's turn, once all that has arrived was taken: judges the silent, then beats.
    pub fn turn(&mut self, now: Instant, disk_stalls: bool) -> Vec<(NodeId, Datagram)> {
        if self.votes {
            let silent = match self.mutant {
                Some(Mutant::AwayJudges) => self.judge_in_steps(now),
                _ => self.voter.tick(now),
            };
            for (node, epoch) in silent {
                self.fence(node, epoch, disk_stalls);
            }
        }
        self.judged = now;
        let certificates: Vec<_> = match self.votes {
            true => self.voter.certificates().collect(),
            false => Vec::new(),
        };
        let seq = self.holder.beat(now);
        self.newest_beat = seq;
        let to: Vec<NodeId> = self.holder.voters().collect();
        let beats = to.into_iter().map(|voter| {
            let heard = match self.mutant {
                Some(Mutant::UnheardGoesOn) => seq,
                _ => self.holder.heard(voter),
            };
            let beat = Beat {
                seq,
                epoch: self.holder.epoch(),
                lease: self.timing.lease,
                heard,
                // Answers travel at once, each by itself: so each can be lost, late or repeated.
                ack: None,
                certificates: certificates.clone(),
            };
            (voter, Datagram::Beat { beat })
        });
        beats.collect()
    }

    /// Takes a datagram; the answer, if there is one.
    pub fn receive(
        &mut self,
        now: Instant,
        from: NodeId,
        datagram: &Datagram,
    ) -> Option<(NodeId, Datagram)> {
        match datagram {
            Datagram::Beat { beat } => self.on_beat(now, from, beat),
            Datagram::Ack { ack } => {
                self.on_ack(now, from, *ack);
                None
            }
        }
    }

    /// Fences that were on their way to the disk are there.
    pub fn disk_goes_on(&mut self) {
        for (node, epoch) in std::mem::take(&mut self.writing) {
            self.on_disk(node, epoch);
        }
    }

    /// Moves the kernel's deadline, if it has changed and the gates are known to be right.
    pub fn write_deadline(&mut self) {
        let deadline = self.holder.deadline();
        if deadline != self.deadline {
            self.deadline = deadline;
            if self.armed || self.mutant == Some(Mutant::DeadlineBeforeGates) {
                self.remains.kernel.deadline = deadline;
            }
        }
    }

    fn on_beat(&mut self, now: Instant, from: NodeId, beat: &Beat) -> Option<(NodeId, Datagram)> {
        for (node, epoch) in &beat.certificates {
            self.takeover.on_certificate(from, *node, *epoch);
        }
        let epoch = beat.epoch.filter(|_| self.votes)?;
        let mut taken = beat.clone();
        taken.lease = match self.mutant {
            Some(Mutant::PromiseByOwnLease) => self.timing.lease,
            Some(Mutant::NoDriftMargin) => without_margin(beat.lease),
            _ => beat.lease,
        };
        let mut verdict = self.voter.on_beat(now, from, &taken)?;
        if self.mutant == Some(Mutant::NoFence) && verdict == Verdict::Fenced {
            verdict = Verdict::Supported;
        }
        let ack = Ack {
            seq: beat.seq,
            epoch,
            verdict,
        };
        Some((from, Datagram::Ack { ack }))
    }

    fn on_ack(&mut self, now: Instant, from: NodeId, mut ack: Ack) {
        if ack.verdict == Verdict::Supported {
            match self.mutant {
                // As if the beat were sent just now.
                Some(Mutant::LeaseFromReceipt) => ack.seq = self.holder.beat(now),
                Some(Mutant::LateAnswerCounts) => ack.seq = self.newest_beat,
                _ => {}
            }
        }
        if self.holder.on_ack(from, ack) {
            self.fenced = Some(ack.epoch);
        }
        self.write_deadline();
    }

    fn fence(&mut self, node: NodeId, epoch: Epoch, disk_stalls: bool) {
        if self.mutant == Some(Mutant::FenceNotDurable) {
            self.voter.fenced(node, epoch);
            self.takeover.on_certificate(self.me, node, epoch);
        } else if disk_stalls {
            self.writing.push((node, epoch));
            if self.mutant == Some(Mutant::CertifiedBeforeDurable) {
                self.voter.fenced(node, epoch);
                self.takeover.on_certificate(self.me, node, epoch);
            }
        } else {
            self.on_disk(node, epoch);
        }
    }

    fn on_disk(&mut self, node: NodeId, epoch: Epoch) {
        self.remains.disk.insert(node, epoch);
        self.voter.fenced(node, epoch);
        self.takeover.on_certificate(self.me, node, epoch);
    }

    fn judge_in_steps(&mut self, now: Instant) -> Vec<(NodeId, Epoch)> {
        let mut silent = Vec::new();
        let mut at = self.judged;
        while at < now {
            at = at.after(Span(self.timing.lease.0 / 4)).min(now);
            silent.extend(self.voter.tick(at));
        }
        self.judged = now;
        silent
    }
}
