//! Handing the lead to another voter.

use std::cmp::Reverse;
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use tokio::time::timeout;
use vipd_core::id::NodeId;

use super::ProposeError;
use super::handle::{RaftNode, Voter};
use super::propose::Attempt;
use crate::peer::{Request as Ask, Response};
use crate::types::Metrics;

/// Why the lead was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The leader was not found, or did not answer.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The leader cannot.
    #[error("the lead stays where it is: {0}")]
    Refused(String),
    /// Nobody took it.
    #[error(
        "nobody else took the lead within {0:?}; see `vipctl status` whether the other voters are up"
    )]
    Stuck(Duration),
}

impl RaftNode {
    /// Hands the lead to `to`, or to the most advanced other voter that is alive. Returns when this node sees another
    /// leader.
    ///
    /// # Errors
    /// [`TransferError`] if that does not happen.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<(), TransferError> {
        let before = *self.core.leader.borrow();
        let local = move |node: Self| -> BoxFuture<'static, _> {
            Box::pin(async move { hand_over(&node, to).await })
        };
        let patience = self.core.settings.patience;
        let asked = self
            .at_leader(Ask::Handover(to), patience.into(), local, read)
            .await?;
        asked.map_err(TransferError::Refused)?;
        let mut leader = self.core.leader.subscribe();
        let changed = leader.wait_for(|now| match to {
            Some(to) => *now == Some(to),
            None => now.is_some() && *now != before,
        });
        let seen = timeout(patience, changed).await;
        seen.map(drop).map_err(|_| TransferError::Stuck(patience))
    }
}

/// What came of it, as the leader answers; `None` if that does not tell.
pub(super) fn read(reply: Response) -> Option<Result<(), String>> {
    match reply {
        Response::Done => Some(Ok(())),
        Response::Failed(why) => Some(Err(why)),
        _ => None,
    }
}

/// Hands over from this node, which should be the leader.
pub(super) async fn hand_over(node: &RaftNode, to: Option<NodeId>) -> Attempt<Result<(), String>> {
    let Some(voter) = &node.core.voter else {
        return Attempt::no_vote();
    };
    let now = voter.raft.metrics().borrow_watched().clone();
    if now.current_leader != Some(now.id) {
        let leader = now.current_leader.map(NodeId);
        return Attempt::Elsewhere(leader, "this node does not lead".into());
    }
    let target = match to {
        Some(to) if to.0 == now.id => return Attempt::Done(Ok(())),
        Some(to) if now.membership_config.voter_ids().any(|id| id == to.0) => to.0,
        Some(to) => return Attempt::Done(Err(format!("node {to} has no vote"))),
        None => match successor(voter, node.core.settings.election_max * 2).await {
            Some(best) => best,
            None => return Attempt::Done(Err("no other voter is alive".into())),
        },
    };
    match voter.raft.trigger().transfer_leader(target).await {
        Ok(()) => Attempt::Done(Ok(())),
        Err(error) => Attempt::Unsure(error.to_string()),
    }
}

/// The voter to hand over to. A leader that was only just elected has heard nobody yet, so it listens for a moment.
async fn successor(voter: &Voter, patience: Duration) -> Option<u64> {
    let mut metrics = voter.raft.metrics();
    let listen = async {
        loop {
            let found = best(&metrics.borrow_watched(), patience);
            if found.is_some() || metrics.changed().await.is_err() {
                return found;
            }
        }
    };
    timeout(patience, listen).await.unwrap_or(None)
}

/// The other voter with the longest log, of those heard within `recent`; of equals the one heard last.
fn best(now: &Metrics, recent: Duration) -> Option<u64> {
    let heard = |id: &u64| {
        let at = now.heartbeat.as_ref()?.get(id)?.as_ref()?;
        Some(at.elapsed()).filter(|ago| *ago <= recent)
    };
    let log = |id: &u64| now.replication.as_ref()?.get(id).cloned()?;
    let others = now.membership_config.voter_ids().filter(|id| *id != now.id);
    others
        .filter_map(|id| Some((id, heard(&id)?)))
        .max_by_key(|(id, ago)| (log(id), Reverse(*ago)))
        .map(|(id, _)| id)
}
