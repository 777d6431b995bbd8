//! Raft's membership follows the state: vipd-raft's rule, executed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::ChangeMembers;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use vipd_core::command::Command;
use vipd_core::id::NodeId;
use vipd_core::node::Lease;
use vipd_core::rejection::Rejection;
use vipd_raft::parts::{CHANGE, Member, Step, TICK, View, next_step, no_change};

use super::{Process, Voter};
use crate::lock;
use crate::raft::{Metrics, Request, Response};
use crate::runtime::{Local, NodeRuntime, sleep};

/// How long holders may take to report that they count by the new voters.
const REPORTS: Duration = Duration::from_secs(5);

/// The task on every voter; works only while it leads.
pub(super) async fn keep(process: Arc<Process>) {
    let news = process.shared.news.listen();
    let Some(voter) = process.voter.get() else {
        return;
    };
    loop {
        drop(NodeRuntime::timeout(TICK, news.notified()).await);
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader == Some(now.id)
            && now.membership_config == now.committed_membership_config
        {
            reconcile(&process, voter, &now).await;
        }
    }
}

async fn reconcile(process: &Process, voter: &Voter, now: &Metrics) {
    let leaving = lock(&voter.leaving).clone();
    let wanted: BTreeMap<NodeId, Member> = {
        let replica = process.shared.read();
        if replica.state.cluster().is_none() {
            return;
        }
        let nodes = replica.state.nodes().values();
        nodes
            .filter(|node| node.role.votes() && !leaving.contains(&node.id))
            .map(|node| (node.id, Member { peer: node.peer }))
            .collect()
    };
    let membership = now.membership_config.membership();
    let learners = membership.learner_ids().map(NodeId);
    let view = View {
        wanted: &wanted,
        voters: membership.voter_ids().map(NodeId).collect(),
        joint: membership.get_joint_config().len() > 1,
        leaving: !leaving.is_empty(),
        learners: learners.filter(|id| !leaving.contains(id)).collect(),
        matched: matched(now, Duration::from_nanos(process.timing.lease.0 * 2)),
        last: now.last_log_index.unwrap_or(0),
    };
    let Some(step) = next_step(&view) else { return };
    process
        .world
        .trace
        .line(format_args!("n{}: membership: {step:?}", process.me()));
    let change = async {
        match &step {
            Step::Learn(id, member) => voter.raft.add_learner(id.0, *member, false).await.map(drop),
            Step::Promote(id) => {
                let add = ChangeMembers::AddVoterIds(BTreeSet::from([id.0]));
                voter.raft.change_membership(add, true).await.map(drop)
            }
            Step::Forget(id) => {
                let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id.0]));
                voter.raft.change_membership(gone, false).await.map(drop)
            }
            Step::Settle => {
                let change = voter.raft.change_membership(no_change(), true);
                change.await.map(drop)
            }
        }
    };
    // What did not work is seen at the next comparison.
    drop(NodeRuntime::timeout(CHANGE, change).await);
}

/// How far the log of each member is that answered within `recent`.
fn matched(now: &Metrics, recent: Duration) -> BTreeMap<NodeId, u64> {
    let heard = |id: &u64| {
        let at = now.heartbeat.as_ref()?.get(id)?.as_ref()?;
        (at.elapsed() <= recent).then_some(())
    };
    let progress = now.replication.iter().flatten();
    let of = |(id, at): (&u64, &Option<vipd_raft::parts::LogId>)| {
        heard(id)?;
        Some((NodeId(*id), at.as_ref()?.index))
    };
    progress.filter_map(of).collect()
}

impl Process {
    /// Takes a node out of the cluster for good: first its vote, then its record.
    pub(super) async fn remove_here(&self, voter: &Voter, node: NodeId) -> Response {
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader != Some(now.id) {
            return Response::NotLeader(now.current_leader.map(NodeId));
        }
        let name = {
            let replica = self.shared.read();
            match replica.state.node(node) {
                None => return Response::Failed("there is no such node".into()),
                Some(record) if record.lease == Lease::Up => {
                    return Response::Failed("it is up".into());
                }
                Some(record) => record.name.clone(),
            }
        };
        if now.membership_config.voter_ids().eq([node.0]) {
            return Response::Failed("it is the last voter".into());
        }
        lock(&voter.leaving).insert(node);
        let result = self.end_membership(voter, node).await;
        let response = match result {
            Ok(()) => self.forget(name).await,
            Err(why) => Response::Failed(why),
        };
        lock(&voter.leaving).remove(&node);
        response
    }

    async fn end_membership(&self, voter: &Voter, node: NodeId) -> Result<(), String> {
        let gone = BTreeSet::from([node.0]);
        let late = |_| "no majority agreed in time".to_owned();
        if voter.raft.voter_ids().any(|id| id == node.0) {
            let demote = ChangeMembers::RemoveVoters(gone.clone());
            let change = voter.raft.change_membership(demote, true);
            let changed = NodeRuntime::timeout(CHANGE, change).await.map_err(late)?;
            changed.map_err(|error| error.to_string())?;
        }
        let membership = voter
            .raft
            .metrics()
            .borrow_watched()
            .membership_config
            .clone();
        if membership.get_node(&node.0).is_some() {
            let change = voter
                .raft
                .change_membership(ChangeMembers::RemoveNodes(gone), false);
            let changed = NodeRuntime::timeout(CHANGE, change).await.map_err(late)?;
            changed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Deletes the record, once all holders have reported that they count by the new voters.
    async fn forget(&self, name: vipd_core::name::Name) -> Response {
        let deadline = Local::now() + REPORTS;
        loop {
            let command = Command::RemoveNode { node: name.clone() };
            let id = self.world.dice(|dice| u128::from(dice.next()));
            match Box::pin(self.answer(self.me(), Request::Propose(id, Box::new(command)))).await {
                Response::Proposed(Ok(_) | Err(Rejection::NotFound { .. })) => {
                    return Response::Done;
                }
                Response::Proposed(Err(Rejection::NodeBusy { .. })) if Local::now() < deadline => {
                    sleep(TICK).await
                }
                Response::Proposed(Err(rejection)) => {
                    return Response::Failed(rejection.to_string());
                }
                other => return other,
            }
        }
    }
}
