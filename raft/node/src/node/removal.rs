//! Taking a node out of the cluster for good.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep, timeout};
use vipd_core::asker::{Asker, Who};
use vipd_core::command::Command;
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Lease;
use vipd_core::rejection::Rejection;

use super::ProposeError;
use super::handle::{RaftNode, Voter};
use super::members::{CHANGE, TICK};
use super::propose::{ATTEMPT, Attempt, Patience, write};
use super::read::read_index;
use super::standing::FOR_ADMINS;
use crate::peer::{Request as Ask, Response};

/// How long holders may take to report that they count by the new voters.
const REPORTS: Duration = Duration::from_secs(5);
/// How long one removal may take on the leader.
pub(super) const REMOVAL: Duration = Duration::from_secs(2 * CHANGE.as_secs() + REPORTS.as_secs());

/// Why a node is not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalError {
    /// As things are, in the operator's words.
    #[error("{0}")]
    Refused(String),
    /// The state, or whoever asks may not.
    #[error(transparent)]
    Rejected(Rejection),
}

impl RaftNode {
    /// Takes a node out of the cluster for good, for `who` asked for it: first its vote, then its record. Its number never comes back, and
    /// peers refuse it from then on. It must be stopped, with its lease over.
    ///
    /// # Errors
    /// [`ProposeError`] without a leader, and on an agent; the inner error says why it cannot go.
    pub async fn remove_node(
        &self,
        who: Who,
        node: NodeId,
    ) -> Result<Result<(), RemovalError>, ProposeError> {
        if self.core.voter.is_none() {
            return Err(ProposeError::Agent(FOR_ADMINS));
        }
        let by = Some(self.asked_by(who));
        let ask = Ask::Remove(node, by.clone());
        let local = move |own: Self| -> BoxFuture<'static, _> {
            let by = by.clone();
            Box::pin(async move { own.remove_here(node, by).await })
        };
        let patience = Patience {
            whole: REMOVAL + CHANGE,
            untaken: self.core.settings.patience,
            attempt: REMOVAL,
        };
        self.at_leader(ask, patience, local, read).await
    }

    /// The same, on the leader.
    pub(super) async fn remove_here(
        &self,
        node: NodeId,
        by: Option<Asker>,
    ) -> Attempt<Result<(), RemovalError>> {
        let refused = |why| Attempt::Done(Err(RemovalError::Refused(why)));
        let Some(voter) = &self.core.voter else {
            return Attempt::no_vote();
        };
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader != Some(now.id) {
            let leader = now.current_leader.map(NodeId);
            return Attempt::Elsewhere(leader, "this node does not lead".into());
        }
        // An earlier attempt may have come to its end without a word about it.
        if self.core.was_removed(node) {
            return Attempt::Done(Ok(()));
        }
        let name = match self.may_go(node) {
            Ok(name) => name,
            Err(why) => return refused(why),
        };
        if now.membership_config.voter_ids().eq([node.0]) {
            return refused("it is the last voter: a cluster cannot be without one".into());
        }
        if let Err(nothing_done) = led(self).await {
            return nothing_done;
        }
        let _leaving = Leaving::mark(voter, node);
        // Changes of members carry no asker. Only the log knows whether whoever asks still may, so it is asked first: a
        // voter's record stays until its vote is gone.
        match self.forget_now(&name, by.clone()).await {
            Attempt::Done(Ok(()) | Err(RemovalError::Rejected(Rejection::NodeBusy { .. }))) => {}
            judged => return judged,
        }
        match end_membership(voter, node).await {
            Ok(()) => self.forget(name, by).await,
            Err(why) => Attempt::Unsure(why),
        }
    }

    fn may_go(&self, node: NodeId) -> Result<Name, String> {
        let replica = self.core.shared.read();
        let record = replica.state.node(node);
        let record = record.ok_or_else(|| format!("there is no node with number {node}"))?;
        match record.lease {
            Lease::Up => {
                Err("it is up: stop vipd on it first, or wait until its lease is withdrawn".into())
            }
            Lease::Never | Lease::Down => Ok(record.name.clone()),
        }
    }

    /// Deletes the record. Holders report which voters they count by; until all have, the old voter set, and so the
    /// node, is still needed.
    async fn forget(&self, name: Name, by: Option<Asker>) -> Attempt<Result<(), RemovalError>> {
        let deadline = Instant::now() + REPORTS;
        loop {
            match self.forget_now(&name, by.clone()).await {
                Attempt::Done(Err(RemovalError::Rejected(Rejection::NodeBusy { .. })))
                    if Instant::now() < deadline =>
                {
                    sleep(TICK).await;
                }
                judged => return judged,
            }
        }
    }

    /// The same, tried once.
    async fn forget_now(
        &self,
        name: &Name,
        by: Option<Asker>,
    ) -> Attempt<Result<(), RemovalError>> {
        let forget = Command::RemoveNode { node: name.clone() };
        match write(self, rand::random(), forget, by).await {
            Attempt::Done(Ok(_) | Err(Rejection::NotFound { .. })) => Attempt::Done(Ok(())),
            Attempt::Done(Err(rejection)) => Attempt::Done(Err(RemovalError::Rejected(rejection))),
            Attempt::Elsewhere(who, why) => Attempt::Elsewhere(who, why),
            Attempt::Unsure(why) => Attempt::Unsure(why),
        }
    }
}

/// Whether this leader has a majority. Without one, what it writes would be carried out whenever one is back, perhaps long after
/// whoever asked was told that it was not.
async fn led<T>(node: &RaftNode) -> Result<(), Attempt<T>> {
    let why = match timeout(ATTEMPT, read_index(node)).await {
        Ok(Attempt::Done(_)) => return Ok(()),
        Ok(Attempt::Elsewhere(who, why)) => return Err(Attempt::Elsewhere(who, why)),
        Ok(Attempt::Unsure(why)) => why,
        Err(_) => "the leader did not hear a majority in time".into(),
    };
    // A read that is not answered has done nothing.
    Err(Attempt::Elsewhere(None, why))
}

/// What came of it, as the leader answers; `None` if that does not tell.
pub(super) fn read(reply: Response) -> Option<Result<(), RemovalError>> {
    match reply {
        Response::Done => Some(Ok(())),
        Response::Proposed(Err(rejection)) => Some(Err(RemovalError::Rejected(rejection))),
        Response::Failed(why) => Some(Err(RemovalError::Refused(why))),
        _ => None,
    }
}

/// Takes a node's vote, then ends the replication to it.
async fn end_membership(voter: &Voter, node: NodeId) -> Result<(), String> {
    let gone = BTreeSet::from([node.0]);
    let late =
        |_| "no majority of the voters, before and after the change, agreed in time".to_owned();
    if voter.raft.voter_ids().any(|id| id == node.0) {
        let demote = ChangeMembers::RemoveVoters(gone.clone());
        let change = timeout(CHANGE, voter.raft.change_membership(demote, true));
        change
            .await
            .map_err(late)?
            .map_err(|error| format!("taking its vote failed: {error}"))?;
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
        let changed = timeout(CHANGE, change).await.map_err(late)?;
        changed.map_err(|error| format!("ending its replication failed: {error}"))?;
    }
    Ok(())
}

/// A node on its way out, which must not be added again meanwhile, however the removal ends.
struct Leaving<'a> {
    voter: &'a Voter,
    node: NodeId,
}

impl<'a> Leaving<'a> {
    fn mark(voter: &'a Voter, node: NodeId) -> Self {
        voter
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node);
        Self { voter, node }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.voter
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.node);
    }
}

impl Voter {
    /// The nodes on their way out.
    pub(super) fn leaving(&self) -> BTreeSet<NodeId> {
        self.leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
