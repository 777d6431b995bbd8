//! Raft's membership follows the state: on the leader, every node whose role votes is added as a learner, and
//! given its vote when it has caught up.
//!
//! Wanted state, not events: the leader compares after every change and on a timer, so a leader that dies in the
//! middle leaves nothing half done that the next one would not finish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep, timeout};
use vipd_core::command::Command;
use vipd_core::id::NodeId;
use vipd_core::node::Lease;
use vipd_core::rejection::Rejection;

use super::ProposeError;
use super::handle::{Core, RaftNode, Voter};
use super::propose::{Attempt, write};
use crate::peer::{Request as Ask, Response};
use crate::types::{Member, Metrics};

/// More voters make every commit slower and no cluster safer; further ones stay learners until one leaves.
pub(crate) const MAX_VOTERS: usize = 7;
/// A learner this many entries behind has caught up.
const CAUGHT_UP: u64 = 50;
/// How often the comparison is made without news.
const TICK: Duration = Duration::from_millis(200);
/// How long one membership change may take.
const CHANGE: Duration = Duration::from_secs(10);

/// One step towards the wanted membership.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Begin replicating to a node.
    Learn(NodeId, Member),
    /// Give nodes that have caught up their vote.
    Promote(BTreeSet<NodeId>),
}

/// What the state wants and Raft has.
struct View<'a> {
    wanted: &'a BTreeMap<NodeId, Member>,
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    /// How far each member's log is, and the leader's own.
    matched: BTreeMap<NodeId, u64>,
    last: u64,
}

fn next_step(view: &View<'_>) -> Option<Step> {
    let unknown = |id: &&NodeId| !view.voters.contains(id) && !view.learners.contains(id);
    if let Some(id) = view.wanted.keys().find(unknown) {
        return Some(Step::Learn(*id, view.wanted[id]));
    }
    let room = MAX_VOTERS.saturating_sub(view.voters.len());
    let ready = |id: &&NodeId| {
        let matched = view.matched.get(id).copied();
        view.wanted.contains_key(id) && matched.is_some_and(|at| at + CAUGHT_UP >= view.last)
    };
    // One at a time: each makes the majority harder to reach until it is really there.
    let ready: BTreeSet<NodeId> = view
        .learners
        .iter()
        .filter(ready)
        .take(room.min(1))
        .copied()
        .collect();
    (!ready.is_empty()).then_some(Step::Promote(ready))
}

/// The task on every voter; works only while it leads.
pub(super) async fn keep(core: Arc<Core>) {
    let mut applied = core.shared.applied();
    loop {
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = sleep(TICK) => {}
        }
        let Some(voter) = &core.voter else { return };
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader == Some(now.id)
            && now.membership_config == now.committed_membership_config
        {
            reconcile(&core, voter, &now).await;
        }
        core.directory.keep_only(|node| still_wanted(&core, node));
        let own = core.identity.node;
        for voter in now.membership_config.voter_ids().map(NodeId) {
            if voter != own && still_wanted(&core, voter) {
                core.directory.keep_warm(voter);
            }
        }
    }
}

fn still_wanted(core: &Core, node: NodeId) -> bool {
    let replica = core.shared.read();
    replica.state.cluster().is_none()
        || replica.state.node(node).is_some()
        || replica.membership.membership().get_node(&node.0).is_some()
}

async fn reconcile(core: &Core, voter: &Voter, now: &Metrics) {
    let wanted: BTreeMap<NodeId, Member> = {
        let leaving = voter
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let replica = core.shared.read();
        let nodes = replica.state.nodes().values();
        let staying = nodes.filter(|node| node.role.votes() && !leaving.contains(&node.id));
        staying
            .map(|node| (node.id, Member { peer: node.peer }))
            .collect()
    };
    let membership = now.membership_config.membership();
    let progress = now.replication.clone().unwrap_or_default();
    let view = View {
        wanted: &wanted,
        voters: membership.voter_ids().map(NodeId).collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
        matched: progress
            .iter()
            .filter_map(|(id, at)| Some((NodeId(*id), at.as_ref()?.index)))
            .collect(),
        last: now.last_log_index.unwrap_or(0),
    };
    let Some(step) = next_step(&view) else { return };
    let change = async {
        match &step {
            Step::Learn(id, member) => {
                tracing::info!(node = %id, addr = %member.peer, "bringing a new voter up to date");
                voter.raft.add_learner(id.0, *member, false).await.map(drop)
            }
            Step::Promote(ids) => {
                tracing::info!(nodes = ?ids, "giving a vote to a node that has caught up");
                let add = ChangeMembers::AddVoterIds(ids.iter().map(|id| id.0).collect());
                voter.raft.change_membership(add, true).await.map(drop)
            }
        }
    };
    match timeout(CHANGE, change).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the membership change will be tried again"),
        Err(_) => tracing::warn!(
            ?step,
            "the membership change takes long; is a majority of the voters up?"
        ),
    }
}

impl RaftNode {
    /// Takes a node out of the cluster for good: first its vote, then its record. Its number never comes back, and
    /// peers refuse it from then on. It must be stopped, with its lease over.
    ///
    /// # Errors
    /// [`ProposeError`] without a leader; the inner error says in the operator's words why it cannot go.
    pub async fn remove_node(&self, node: NodeId) -> Result<Result<(), String>, ProposeError> {
        let local = move |own: Self| -> BoxFuture<'static, _> {
            Box::pin(async move { own.remove_here(node).await })
        };
        let read = |reply| match reply {
            Response::Done => Some(Ok(())),
            Response::Failed(why) => Some(Err(why)),
            _ => None,
        };
        let patience = self.core.settings.patience.max(CHANGE);
        self.at_leader(Ask::Remove(node), patience, local, read)
            .await
    }

    /// The same, on the leader.
    pub(super) async fn remove_here(&self, node: NodeId) -> Attempt<Result<(), String>> {
        let Some(voter) = &self.core.voter else {
            return Attempt::no_vote();
        };
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader != Some(now.id) {
            return Attempt::Elsewhere(
                now.current_leader.map(NodeId),
                "this node does not lead".into(),
            );
        }
        let name = {
            let replica = self.core.shared.read();
            let Some(record) = replica.state.node(node) else {
                return Attempt::Done(Err(format!("there is no node with number {node}")));
            };
            if record.lease == Lease::Up {
                return Attempt::Done(Err(format!(
                    "node {} is up: stop vipd on it first, or wait until its lease is withdrawn",
                    record.name
                )));
            }
            record.name.clone()
        };
        if now.membership_config.membership().voter_ids().eq([node.0]) {
            return Attempt::Done(Err(format!(
                "node {name} is the last voter: a cluster cannot be without one"
            )));
        }
        voter
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node);
        let outcome = self
            .take_out(voter, node, Command::RemoveNode { node: name })
            .await;
        voter
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&node);
        outcome
    }

    async fn take_out(
        &self,
        voter: &Voter,
        node: NodeId,
        forget: Command,
    ) -> Attempt<Result<(), String>> {
        let gone = BTreeSet::from([node.0]);
        let is_voter = voter.raft.voter_ids().any(|id| id == node.0);
        if is_voter
            && let Err(error) = voter
                .raft
                .change_membership(ChangeMembers::RemoveVoters(gone.clone()), true)
                .await
        {
            return Attempt::Unsure(format!("taking its vote failed: {error}"));
        }
        let known = voter
            .raft
            .metrics()
            .borrow_watched()
            .membership_config
            .get_node(&node.0)
            .is_some();
        if known
            && let Err(error) = voter
                .raft
                .change_membership(ChangeMembers::RemoveNodes(gone), false)
                .await
        {
            return Attempt::Unsure(format!("ending its replication failed: {error}"));
        }
        // Holders report which voters they count by; until all have, the old voter set is still needed.
        let deadline = Instant::now() + self.core.settings.patience;
        let id = rand::random::<u128>();
        for attempt in 0u128.. {
            match write(self, id.wrapping_add(attempt), forget.clone()).await {
                Attempt::Done(Ok(_) | Err(Rejection::NotFound { .. })) => {
                    return Attempt::Done(Ok(()));
                }
                Attempt::Done(Err(Rejection::NodeBusy { .. })) if Instant::now() < deadline => {
                    sleep(TICK).await
                }
                Attempt::Done(Err(rejection)) => return Attempt::Done(Err(rejection.to_string())),
                Attempt::Elsewhere(who, why) => return Attempt::Elsewhere(who, why),
                Attempt::Unsure(why) => return Attempt::Unsure(why),
            }
        }
        Attempt::Unsure("it was tried too often".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn wanted(of: &[u64]) -> BTreeMap<NodeId, Member> {
        of.iter()
            .map(|id| (NodeId(*id), Member::default()))
            .collect()
    }

    #[test]
    fn a_new_voter_learns_first_and_votes_when_it_has_caught_up() {
        let wanted = wanted(&[1, 9]);
        let mut view = View {
            wanted: &wanted,
            voters: ids(&[1]),
            learners: ids(&[]),
            matched: BTreeMap::new(),
            last: 100,
        };
        assert_eq!(
            next_step(&view),
            Some(Step::Learn(NodeId(9), Member::default()))
        );
        view.learners = ids(&[9]);
        assert_eq!(next_step(&view), None);
        view.matched = [(NodeId(9), 30)].into();
        assert_eq!(next_step(&view), None);
        view.matched = [(NodeId(9), 60)].into();
        assert_eq!(next_step(&view), Some(Step::Promote(ids(&[9]))));
    }

    #[test]
    fn the_eighth_voter_stays_a_learner() {
        let wanted = wanted(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let view = View {
            wanted: &wanted,
            voters: ids(&[1, 2, 3, 4, 5, 6, 7]),
            learners: ids(&[8]),
            matched: [(NodeId(8), 100)].into(),
            last: 100,
        };
        assert_eq!(next_step(&view), None);
    }
}
