//! The side of a node that wants to announce: gathers support and knows until when it may.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Ack, Timing, Verdict};
use crate::id::{Epoch, NodeId};
use crate::node::VoterSets;
use crate::time::{Instant, Span};

/// Send times are remembered for this many beats; an acknowledgement of an older one is of no use.
const REMEMBERED: usize = 128;

/// Gathers support for one node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    timing: Timing,
    epoch: Option<Epoch>,
    voters: VoterSets,
    next_seq: u64,
    /// Send time of beat `seq`, at `seq % REMEMBERED`.
    sent: [(u64, Instant); REMEMBERED],
    /// Of each voter: when the newest beat that it supports was *sent*.
    supported: BTreeMap<NodeId, Instant>,
    /// Until when the epoch before this one allowed it to announce.
    granted: Instant,
    /// Of each voter: the newest beat that it has answered, whatever it said.
    heard: BTreeMap<NodeId, u64>,
}

impl Holder {
    /// A node without a lease. It numbers its beats from 1; voters that knew it before its restart tell it
    /// where to go on.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            epoch: None,
            voters: VoterSets { sets: Vec::new() },
            next_seq: 1,
            sent: [(0, Instant(0)); REMEMBERED],
            supported: BTreeMap::new(),
            granted: Instant(0),
            heard: BTreeMap::new(),
        }
    }

    /// Numbers the beats from `now` on: more than a beat each nanosecond nobody sends, so an answer to an earlier life on
    /// this machine, however late it comes, is never taken for one to this life.
    pub(super) fn number_from(&mut self, now: Instant) {
        self.next_seq = self.next_seq.max(now.0);
    }

    /// The lease, if there is one.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Begins (or ends) a lease. Support for another epoch does not carry over; what it has already granted does:
    /// voters promise for a node, not for an epoch, so a renewed lease leaves no gap.
    pub fn set_epoch(&mut self, epoch: Option<Epoch>) {
        if self.epoch == epoch {
            return;
        }
        self.granted = match epoch {
            Some(_) => self.deadline(),
            None => Instant(0),
        };
        self.epoch = epoch;
        self.supported.clear();
    }

    /// The voters whose support counts, from the last membership entry that this node applied. What others granted
    /// to an earlier lease ends here: once the cluster knows of the change, it no longer asks them.
    pub fn set_voters(&mut self, voters: &VoterSets) {
        if self.voters != *voters {
            self.voters.clone_from(voters);
            self.granted = Instant(0);
        }
    }

    /// Everyone to send the next beat to.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.voters.voters().into_iter()
    }

    /// Lets support last for another time from the next beat on. What was granted by then stays as it is: those who have
    /// promised did so for the length they were told.
    pub(super) fn set_lease(&mut self, lease: Span) {
        self.granted = self.deadline();
        self.supported.clear();
        self.sent = [(0, Instant(0)); REMEMBERED];
        self.timing.lease = lease;
    }

    /// Whether `have` holds of a majority of a voter set: enough to have taken the lease away by that set.
    pub(super) fn majority(&self, have: impl Fn(NodeId) -> bool) -> bool {
        !self.voters.sets.is_empty() && self.voters.majority(have)
    }

    /// Whether a majority of each voter set has answered a beat that was sent within the last lease, with whatever verdict.
    pub(super) fn answered(&self, now: Instant) -> bool {
        self.majority(|voter| {
            let newest = self.heard(voter);
            let (seq, at) = self.sent[(newest % REMEMBERED as u64) as usize];
            newest > 0 && seq == newest && now.since(at) < self.timing.lease
        })
    }

    /// The number of the next beat, sent at `now`.
    pub fn beat(&mut self, now: Instant) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.sent[(seq % REMEMBERED as u64) as usize] = (seq, now);
        seq
    }

    /// The newest beat that `voter` has answered: shows it that it is heard.
    #[must_use]
    pub fn heard(&self, voter: NodeId) -> u64 {
        self.heard.get(&voter).copied().unwrap_or(0)
    }

    /// Takes a voter's answer. `true` if it says that this lease is fenced.
    ///
    /// Support counts from *our own* send time, so a delayed or repeated answer extends nothing.
    pub fn on_ack(&mut self, from: NodeId, ack: Ack) -> bool {
        let heard = self.heard.entry(from).or_default();
        *heard = ack.seq.max(*heard);
        if self.epoch != Some(ack.epoch) {
            return false;
        }
        match ack.verdict {
            Verdict::Fenced => true,
            Verdict::Unheard => false,
            Verdict::Behind { newest } => {
                self.next_seq = self.next_seq.max(newest.saturating_add(1));
                false
            }
            Verdict::Supported => {
                let (seq, at) = self.sent[(ack.seq % REMEMBERED as u64) as usize];
                if seq == ack.seq {
                    let newest = self.supported.entry(from).or_default();
                    *newest = at.max(*newest);
                }
                false
            }
        }
    }

    /// Until when this node may announce: the send time of the newest beat that a majority of *each* voter set
    /// supports, plus the lease. `Instant(0)`, long past, without one.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let newest_by_majority = |set: &alloc::collections::BTreeSet<NodeId>| {
            let mut sent: Vec<Instant> = set
                .iter()
                .map(|v| self.supported.get(v).copied().unwrap_or_default())
                .collect();
            sent.sort_unstable_by(|a, b| b.cmp(a));
            sent.get(set.len() / 2).copied().unwrap_or_default()
        };
        match self.voters.sets.iter().map(newest_by_majority).min() {
            Some(at) if at > Instant(0) && self.epoch.is_some() => {
                at.after(self.timing.lease).max(self.granted)
            }
            Some(_) | None => self.granted,
        }
    }
}
