//! The side of a voter: promises, fences, certificates.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Beat, Timing, Verdict};
use crate::id::{Epoch, NodeId};
use crate::time::{Instant, Span};

/// One voter's word to every node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    timing: Timing,
    /// Nothing is withdrawn before: an earlier life's promises may still run.
    not_before: Instant,
    /// When [`Voter::tick`] last ran.
    ticked: Instant,
    /// The leases the log says are running.
    leases: BTreeMap<NodeId, Epoch>,
    /// Until when nobody is helped against this node, whatever its epoch.
    promises: BTreeMap<NodeId, Instant>,
    /// Epochs up to this one are never supported again.
    fences: BTreeMap<NodeId, Fence>,
    /// What each node's beats have said.
    senders: BTreeMap<NodeId, Sender>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sender {
    /// The highest beat number taken.
    newest: u64,
    /// The newest answer that it has shown to have heard, and since when it shows no newer one.
    heard: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fence {
    epoch: Epoch,
    /// Safe to tell others: it is on this voter's disk.
    durable: Option<Epoch>,
}

impl Voter {
    /// A voter that starts at `now` with the fences its disk holds.
    #[must_use]
    pub fn new(
        timing: Timing,
        now: Instant,
        on_disk: impl IntoIterator<Item = (NodeId, Epoch)>,
    ) -> Self {
        let fences = on_disk
            .into_iter()
            .map(|(node, epoch)| {
                (
                    node,
                    Fence {
                        epoch,
                        durable: Some(epoch),
                    },
                )
            })
            .collect();
        Self {
            timing,
            not_before: now.after(timing.boot_wait()),
            ticked: now,
            leases: BTreeMap::new(),
            promises: BTreeMap::new(),
            fences,
            senders: BTreeMap::new(),
        }
    }

    /// Takes the running leases from the log. A lease heard of for the first time is given the time of one
    /// promise to be heard from.
    pub fn set_leases(&mut self, now: Instant, leases: impl IntoIterator<Item = (NodeId, Epoch)>) {
        let known = core::mem::take(&mut self.leases);
        self.leases = leases.into_iter().collect();
        for (node, epoch) in &self.leases {
            if known.get(node) != Some(epoch) {
                let promise = self.promises.entry(*node).or_default();
                *promise = now.after(self.timing.promise()).max(*promise);
            }
        }
        self.promises
            .retain(|node, until| *until > now || self.leases.contains_key(node));
    }

    /// Answers a beat that arrived `at`, or earlier; see [`Verdict`]. `None` to a sender without a lease.
    pub fn on_beat(&mut self, at: Instant, from: NodeId, beat: &Beat) -> Option<Verdict> {
        let epoch = beat.epoch?;
        let sender = self.senders.entry(from).or_insert(Sender {
            newest: 0,
            heard: 0,
            since: at,
        });
        if beat.seq <= sender.newest {
            let newest = sender.newest;
            return Some(Verdict::Behind { newest });
        }
        sender.newest = beat.seq;
        if beat.heard > sender.heard {
            (sender.heard, sender.since) = (beat.heard, at);
        }
        let silence = at.since(sender.since);
        if self
            .fences
            .get(&from)
            .is_some_and(|fence| epoch <= fence.epoch)
        {
            return Some(Verdict::Fenced);
        }
        let Some(span) = self
            .timing
            .promise_to(beat.lease)
            .filter(|span| silence <= *span)
        else {
            return Some(Verdict::Unheard);
        };
        let promise = self.promises.entry(from).or_default();
        *promise = at.after(span).max(*promise);
        Some(Verdict::Supported)
    }

    /// Fences the leases whose promise has run out: from now on they are not supported, and once the caller
    /// has them on disk ([`Voter::fenced`]) they are certified.
    ///
    /// Call it only after every datagram that has arrived was taken. A voter that was itself away for long
    /// (stopped, starved) judges nobody by a silence that may have been its own.
    pub fn tick(&mut self, now: Instant) -> Vec<(NodeId, Epoch)> {
        let away = now.since(self.ticked);
        self.ticked = now;
        if away > Span(self.timing.lease.0 / 2) {
            self.not_before = self.not_before.max(now.after(self.timing.promise()));
        }
        if now < self.not_before {
            return Vec::new();
        }
        let mut fenced = Vec::new();
        for (node, epoch) in &self.leases {
            let run_out = self.promises.get(node).is_none_or(|until| *until <= now);
            let fence = self.fences.get(node);
            if run_out && fence.is_none_or(|fence| fence.epoch < *epoch) {
                let durable = fence.and_then(|fence| fence.durable);
                self.fences.insert(
                    *node,
                    Fence {
                        epoch: *epoch,
                        durable,
                    },
                );
                fenced.push((*node, *epoch));
            }
        }
        fenced
    }

    /// This voter's clock has jumped: promises run from now on, as long as they may have been given for.
    pub(super) fn clock_jumped(&mut self, now: Instant) {
        self.ticked = now;
        self.not_before = now.after(self.timing.boot_wait());
        for sender in self.senders.values_mut() {
            sender.since = now;
        }
    }

    /// The fence is on disk.
    pub fn fenced(&mut self, node: NodeId, epoch: Epoch) {
        if let Some(fence) = self.fences.get_mut(&node) {
            fence.durable = fence.durable.max(Some(epoch));
        }
    }

    /// The running leases whose end this voter certifies.
    pub fn certificates(&self) -> impl Iterator<Item = (NodeId, Epoch)> {
        self.leases.iter().filter_map(|(node, epoch)| {
            let durable = self.fences.get(node)?.durable?;
            (durable >= *epoch).then_some((*node, *epoch))
        })
    }

    /// When [`Voter::tick`] can next have something to do; `None` when only a beat or an entry can change that.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.leases
            .iter()
            .filter(|(node, epoch)| {
                self.fences
                    .get(node)
                    .is_none_or(|fence| fence.epoch < **epoch)
            })
            .map(|(node, _)| self.promises.get(node).copied().unwrap_or_default())
            .min()
            .map(|at| at.max(self.not_before))
    }

    /// Whether the running leases are `few` at most, and the beats by which promises to all of them but `me` were last
    /// renewed arrived within `quiet` before `now`.
    pub(super) fn heard_all_but(&self, me: NodeId, now: Instant, quiet: Span, few: usize) -> bool {
        let ends = now.after(Span(self.timing.promise().0.saturating_sub(quiet.0)));
        let promised = |node| self.promises.get(node).is_some_and(|until| *until >= ends);
        let mut others = self.leases.keys().filter(|node| **node != me);
        self.leases.len() <= few && others.all(promised)
    }

    /// Whether a promise to `node` is running.
    #[cfg(test)]
    pub(super) fn hears(&self, now: Instant, node: NodeId) -> bool {
        self.promises.get(&node).is_some_and(|until| *until > now)
    }
}
