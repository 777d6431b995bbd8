//! Raft's membership follows the state: on the leader, every node whose role votes is added as a learner, and
//! given its vote when it has caught up.
//!
//! Wanted state, not events: the leader compares after every change and on a timer, so a leader that dies in the
//! middle leaves nothing half done that the next one would not finish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vipd_core::id::NodeId;

use super::handle::{Core, Voter};
use crate::cadence;
use crate::types::{Member, Metrics};

/// More voters make every commit slower and no cluster safer; further ones stay learners until one leaves.
const MAX_VOTERS: usize = 7;
/// A learner this many entries behind has caught up.
const CAUGHT_UP: u64 = 50;
/// How often the comparison is made without news, while something is on its way: a learner, a lane that is down.
pub const TICK: Duration = Duration::from_millis(200);
/// The same while all is as wanted.
const REST: Duration = Duration::from_secs(1);
/// After how long without a leader, and how often, the operator is told what to look at.
const ALONE: Duration = Duration::from_secs(10);
/// How long one membership change may take.
pub const CHANGE: Duration = Duration::from_secs(10);

/// One step towards the wanted membership.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin replicating to a node.
    Learn(NodeId, Member),
    /// Give a node that has caught up its vote.
    Promote(NodeId),
    /// Stop replicating to a node that nobody wants.
    Forget(NodeId),
    /// Finish a change that was left half done: a majority of the voters before *and* after it is needed until then.
    Settle,
}

/// What the state wants and Raft has.
#[derive(Debug)]
pub struct View<'a> {
    /// The nodes that shall vote.
    pub wanted: &'a BTreeMap<NodeId, Member>,
    /// The voters; of both sets while a change is half done.
    pub voters: BTreeSet<NodeId>,
    /// Whether a change is half done: there are two sets of voters.
    pub joint: bool,
    /// Whether a node is being taken out. Whoever does that finishes its own change.
    pub leaving: bool,
    /// The members without a vote.
    pub learners: BTreeSet<NodeId>,
    /// How far the log of each member is that answered lately.
    pub matched: BTreeMap<NodeId, u64>,
    /// How far the leader's own is.
    pub last: u64,
}

/// The step to take now, if any.
#[must_use]
pub fn next_step(view: &View<'_>) -> Option<Step> {
    if view.joint {
        return (!view.leaving).then_some(Step::Settle);
    }
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
    let promote = view.learners.iter().find(ready).filter(|_| room > 0);
    let forget = || {
        view.learners
            .iter()
            .find(|id| !view.wanted.contains_key(id))
    };
    promote
        .map(|id| Step::Promote(*id))
        .or_else(|| forget().map(|id| Step::Forget(*id)))
}

/// The task on every voter; works only while it leads.
pub(super) async fn keep(core: Arc<Core>) {
    let mut applied = core.shared.applied();
    let mut alone = Instant::now();
    let mut settled = false;
    loop {
        let pause = async {
            if settled {
                sleep_until(cadence::next(REST)).await;
            } else {
                sleep(TICK).await;
            }
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = pause => {}
        }
        let Some(voter) = &core.voter else { return };
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader.is_some() {
            alone = Instant::now();
        } else if alone.elapsed() >= ALONE {
            alone = Instant::now();
            tracing::warn!(
                addr = %core.identity.peer,
                "no leader for {ALONE:?}: is a majority of the voters up, and can they reach this node there?"
            );
        }
        if now.current_leader == Some(now.id)
            && now.membership_config == now.committed_membership_config
        {
            reconcile(&core, voter, &now).await;
        }
        core.directory.keep_only(|node| still_wanted(&core, node));
        let own = core.identity.node;
        let membership = now.membership_config.membership();
        settled = now.current_leader.is_some()
            && now.membership_config == now.committed_membership_config
            && membership.get_joint_config().len() == 1
            && membership.learner_ids().next().is_none();
        for voter in membership.voter_ids().map(NodeId) {
            if voter != own && still_wanted(&core, voter) {
                settled &= core.directory.keep_warm(voter);
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
    let leaving = voter.leaving();
    let wanted: BTreeMap<NodeId, Member> = {
        let replica = core.shared.read();
        if replica.state.cluster().is_none() {
            return;
        }
        let nodes = replica
            .state
            .nodes()
            .values()
            .filter(|node| node.role.votes());
        let staying = nodes.filter(|node| !leaving.contains(&node.id));
        staying
            .map(|node| (node.id, Member { peer: node.peer }))
            .collect()
    };
    let membership = now.membership_config.membership();
    let view = View {
        wanted: &wanted,
        voters: membership.voter_ids().map(NodeId).collect(),
        joint: membership.get_joint_config().len() > 1,
        leaving: !leaving.is_empty(),
        learners: membership
            .learner_ids()
            .map(NodeId)
            .filter(|id| !leaving.contains(id))
            .collect(),
        matched: matched(now, core.settings.election_max * 2),
        last: now.last_log_index.unwrap_or(0),
    };
    let Some(step) = next_step(&view) else { return };
    let change = async {
        match &step {
            Step::Learn(id, member) => {
                tracing::info!(node = %id, addr = %member.peer, "bringing a new voter up to date");
                voter.raft.add_learner(id.0, *member, false).await.map(drop)
            }
            Step::Promote(id) => {
                tracing::info!(node = %id, "giving a vote to a node that has caught up");
                let add = ChangeMembers::AddVoterIds(BTreeSet::from([id.0]));
                voter.raft.change_membership(add, true).await.map(drop)
            }
            Step::Forget(id) => {
                tracing::info!(node = %id, "ending the replication to a node that is no member");
                let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id.0]));
                voter.raft.change_membership(gone, false).await.map(drop)
            }
            Step::Settle => {
                tracing::info!("finishing a change of voters that was left half done");
                voter
                    .raft
                    .change_membership(no_change(), true)
                    .await
                    .map(drop)
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

/// What openraft itself makes its second step of: the newer of two sets of voters alone.
#[must_use]
pub fn no_change() -> ChangeMembers<u64, Member> {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}

/// How far the log of each member is that answered within `recent`.
fn matched(now: &Metrics, recent: Duration) -> BTreeMap<NodeId, u64> {
    let heard = |id: &u64| {
        let at = now.heartbeat.as_ref()?.get(id)?.as_ref()?;
        (at.elapsed() <= recent).then_some(())
    };
    let progress = now.replication.iter().flatten();
    let of = |(id, at): (&u64, &Option<crate::types::LogId>)| {
        heard(id)?;
        Some((NodeId(*id), at.as_ref()?.index))
    };
    progress.filter_map(of).collect()
}

#[cfg(test)]
mod tests;
