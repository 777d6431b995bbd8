//! What the node can say of the cluster, and what an operator or the daemon can ask of its Raft.

use std::collections::BTreeSet;
use std::io;

use futures_util::future::BoxFuture;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use vipd_core::id::NodeId;

use super::ProposeError;
use super::handle::{RaftNode, Voter};
use super::propose::Attempt;
use crate::peer::{Request as Ask, Response};

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
    /// Whether a majority can be assumed: on the leader, that one answered within the election time-out; elsewhere,
    /// that there is a leader.
    pub quorum_ok: bool,
}

/// A node's vote at some moment, to be compared with a later one: it changes with every election that the node hears of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VoteMark {
    term: u64,
    candidate: u64,
    won: bool,
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
        let alone = membership.voter_ids().eq([self.id().0]);
        let leader = now.current_leader.map(NodeId);
        let recent = now
            .last_quorum_acked
            .is_some_and(|at| at.elapsed() <= self.core.settings.election_max * 2);
        let quorum_ok = match leader {
            Some(leader) if leader == self.id() => alone || recent,
            Some(_) => true,
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
            quorum_ok: leader.is_some(),
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

    /// Stands for election at once, with a pre-vote round first: harmless while a leader is alive. Nothing on an
    /// agent.
    pub async fn elect(&self) {
        if let Some(voter) = &self.core.voter
            && let Err(error) = voter.raft.trigger().elect(true).await
        {
            tracing::warn!(%error, "cannot stand for election");
        }
    }

    /// Hands the lead to `to`, or to the most advanced other voter. Returns when this node sees another leader.
    ///
    /// # Errors
    /// [`ProposeError`] if that does not happen in time.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<(), ProposeError> {
        let before = *self.core.leader.borrow();
        let local = move |node: Self| -> BoxFuture<'static, _> {
            Box::pin(async move { hand_over(&node, to).await })
        };
        let read = |reply| matches!(reply, Response::Done).then_some(());
        let patience = self.core.settings.patience;
        self.at_leader(Ask::Handover(to), patience, local, read)
            .await?;
        let mut leader = self.core.leader.subscribe();
        let changed = leader.wait_for(|now| match to {
            Some(to) => *now == Some(to),
            None => now.is_some() && *now != before,
        });
        match tokio::time::timeout(patience, changed).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ProposeError::Unknown {
                patience,
                last: "nobody else took the lead".into(),
            }),
        }
    }

    /// Writes a snapshot now and lets go of the log behind it.
    ///
    /// # Errors
    /// On an agent, and if Raft has stopped.
    pub async fn snapshot(&self) -> io::Result<()> {
        let Some(voter) = &self.core.voter else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "an agent keeps no snapshots",
            ));
        };
        voter
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Hands over from this node, which should be the leader.
pub(super) async fn hand_over(node: &RaftNode, to: Option<NodeId>) -> Attempt<()> {
    let Some(voter) = &node.core.voter else {
        return Attempt::no_vote();
    };
    let now = voter.raft.metrics().borrow_watched().clone();
    if now.current_leader != Some(now.id) {
        return Attempt::Elsewhere(
            now.current_leader.map(NodeId),
            "this node does not lead".into(),
        );
    }
    let progress = now.replication.unwrap_or_default();
    let voters: BTreeSet<u64> = now
        .membership_config
        .voter_ids()
        .filter(|id| *id != now.id)
        .collect();
    let best = voters
        .iter()
        .copied()
        .max_by_key(|id| progress.get(id).cloned().flatten());
    let target = to
        .map(|to| to.0)
        .filter(|to| voters.contains(to))
        .or(best.filter(|_| to.is_none()));
    match target {
        Some(target) if Some(target) != now.current_leader => {
            match voter.raft.trigger().transfer_leader(target).await {
                Ok(()) => Attempt::Done(()),
                Err(error) => Attempt::Unsure(error.to_string()),
            }
        }
        _ if to == Some(NodeId(now.id)) => Attempt::Done(()),
        _ => Attempt::Unsure("there is no other voter to lead".into()),
    }
}
