//! Aided elections: the beats know that the leader is gone before Raft's own timer does.
//!
//! When this voter's promise to the leader has run out, it stands for election at once, in an order that all
//! voters agree on, and only while nobody else has begun: the same leader is still on record and the vote has
//! not changed. Raft's own time-out stays as the fallback.

use std::time::Duration;

use tracing::{debug, info};
use vipd_core::id::NodeId;
use vipd_core::lease::Timing;
use vipd_raft::RaftNode;

/// How often a refused candidacy is tried again.
const TRIES: u32 = 20;

pub(super) struct Election {
    raft: RaftNode,
    step: Duration,
}

impl Election {
    pub(super) fn new(raft: RaftNode, timing: Timing) -> Self {
        Self {
            raft,
            step: Duration::from_nanos(timing.election_rank.0),
        }
    }

    /// This voter has just fenced `node`.
    pub(super) fn on_fencing(&self, node: NodeId) {
        let me = self.raft.id();
        if *self.raft.leader().borrow() != Some(node) || node == me {
            return;
        }
        let rank = self.raft.state().read().voters().and_then(|(_, voters)| {
            let mut others = voters.voters().into_iter().filter(|voter| *voter != node);
            others.position(|voter| voter == me)
        });
        let Some(rank) = rank else { return };
        let (raft, step) = (self.raft.clone(), self.step);
        tokio::spawn(async move {
            let before = raft.vote_mark();
            tokio::time::sleep(step * u32::try_from(rank).unwrap_or(u32::MAX)).await;
            // A voter whose own lease of the leader still runs refuses; it runs out within a beat or two.
            for _ in 0..TRIES {
                if raft.vote_mark() != before || *raft.leader().borrow() != Some(node) {
                    debug!("somebody else stands already");
                    return;
                }
                info!(leader = %node, "the leader is gone: standing for election");
                raft.elect().await;
                tokio::time::sleep(2 * step).await;
            }
        });
    }
}
