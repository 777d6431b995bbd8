//! What the node can say of the cluster, and small things that can be asked of its own Raft.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::{Instant as _, WatchReceiver};
use vipd_core::id::NodeId;
use vipd_core::steward::VoteMark;

use super::handle::{RaftNode, Voter};
use crate::types::Metrics;

/// The cluster as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The current term; 0 on an agent.
    pub term: u64,
    /// The last entry in the log here; on an agent the last one applied.
    pub last_log: u64,
    /// The last entry known to be committed.
    pub committed: u64,
    /// The last entry applied here.
    pub applied: u64,
    /// The last entry in the last snapshot here, if there is one.
    pub snapshot: Option<u64>,
    /// The voters of the newest membership entry; of both sets while a change is under way.
    pub voters: BTreeSet<NodeId>,
    /// Members without a vote yet.
    pub learners: BTreeSet<NodeId>,
    /// Whether a change of members is under way. Until it is done, a majority of the voters before *and* after it is
    /// needed.
    pub changing: bool,
    /// Whether a majority can be assumed: on the leader, that one answered within two election time-outs; elsewhere, that
    /// the leader was heard in that time.
    pub quorum_ok: bool,
}

impl RaftNode {
    /// The cluster as this node sees it, without asking anybody.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.core.voter {
            Some(voter) => self.voter_status(voter),
            None => self.agent_status(),
        }
    }

    fn voter_status(&self, voter: &Voter) -> Status {
        let now = voter.raft.metrics().borrow_watched().clone();
        let membership = now.membership_config.membership();
        let leader = now.current_leader.map(NodeId);
        let recent = self.core.settings.election_max * 2;
        let quorum_ok = match leader {
            Some(leader) if leader == self.id() => answered(&now, recent),
            Some(_) => self.core.hears_leader(),
            None => false,
        };
        Status {
            leader,
            term: now.current_term,
            last_log: now.last_log_index.unwrap_or(0),
            committed: now.local_committed.map_or(0, |id| id.index),
            applied: now.last_applied.map_or(0, |id| id.index),
            snapshot: now.snapshot.map(|id| id.index),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            changing: now.membership_config != now.committed_membership_config
                || membership.get_joint_config().len() > 1,
            quorum_ok,
        }
    }

    fn agent_status(&self) -> Status {
        let leader = *self.core.leader.borrow();
        let replica = self.core.shared.read();
        let (applied, term) = replica
            .applied
            .map_or((0, 0), |id| (id.index, crate::types::term_of(&id)));
        let membership = replica.membership.membership();
        Status {
            leader,
            term,
            last_log: applied,
            committed: applied,
            applied,
            snapshot: None,
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            changing: membership.get_joint_config().len() > 1,
            quorum_ok: leader.is_some() && self.core.hears_leader(),
        }
    }

    /// The vote of this node now. The daemon compares it before it calls [`RaftNode::elect`], so that a late candidate
    /// never deposes a fresh leader. Always the same on an agent.
    #[must_use]
    pub fn vote_mark(&self) -> VoteMark {
        let Some(voter) = &self.core.voter else {
            return VoteMark::default();
        };
        let metrics = voter.raft.metrics();
        let vote = metrics.borrow_watched().vote;
        VoteMark {
            term: vote.leader_id.term,
            candidate: vote.leader_id.voted_for,
            won: vote.committed,
        }
    }

    /// Whether a majority has answered this node within the longest election time-out. It means something of a leader
    /// only.
    #[must_use]
    pub fn majority_answers(&self) -> bool {
        self.core.voter.as_ref().is_some_and(|voter| {
            let metrics = voter.raft.metrics();
            answered(&metrics.borrow_watched(), self.core.settings.election_max)
        })
    }

    /// As a leader, sends the others nothing by which they take it for alive, or does so again: neither heartbeats nor
    /// entries nor snapshots. Nothing on an agent.
    pub fn keep_quiet(&self, quiet: bool) {
        let Some(voter) = &self.core.voter else {
            return;
        };
        if voter.quiet.swap(quiet, Ordering::Relaxed) != quiet {
            match quiet {
                true => tracing::warn!(
                    "no majority answers this leader: quiet, so that another is elected"
                ),
                false => tracing::info!("quiet no more"),
            }
        }
    }

    /// Stands for election at once, with a pre-vote round first: harmless while a leader is alive. Nothing on an
    /// agent.
    pub async fn elect(&self) {
        if let Some(voter) = &self.core.voter
            && let Err(error) = voter.raft.trigger().elect(true).await
        {
            tracing::warn!(%error, "cannot stand for election");
        }
    }

    /// This voter has fenced `leader`: if that one leads, its Raft need not wait until it finds out by itself, and refuses
    /// nobody that stands. It does again once the leader is heard anew, through its connection first. Nothing on an agent.
    pub fn give_up(&self, leader: NodeId) {
        self.core.give_up(leader);
    }

    /// Writes a snapshot of what is applied now and lets go of the log behind it. Returns when it is durable.
    ///
    /// # Errors
    /// On an agent, if Raft has stopped, and if the disk takes longer than [`Settings::patience`](super::Settings).
    pub async fn snapshot(&self) -> io::Result<()> {
        let Some(voter) = &self.core.voter else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "an agent keeps no snapshots",
            ));
        };
        let failed = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        let upto = voter.raft.metrics().borrow_watched().last_applied;
        self.core.shared.request_snapshot();
        voter
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| failed(&error))?;
        let patience = self.core.settings.patience;
        let wait = voter.raft.wait(Some(patience));
        let written = wait.metrics(|now| now.snapshot >= upto, "a snapshot").await;
        written.map(drop).map_err(|error| failed(&error))
    }
}

/// Whether a majority has answered a leader within `recent`: all that there is, if it is the only voter.
fn answered(now: &Metrics, recent: Duration) -> bool {
    let acked = now.last_quorum_acked;
    now.membership_config.voter_ids().eq([now.id]) || acked.is_some_and(|at| at.elapsed() <= recent)
}
