//! Linearizable reads: asked of the leader, read here.

use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::timeout;
use vipd_core::id::NodeId;

use super::ProposeError;
use super::handle::RaftNode;
use super::propose::Attempt;
use crate::peer::{Request as Ask, Response};

/// Why a read cannot be linearizable now.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No leader could vouch for it.
    #[error(
        "no leader confirmed the read: {0}; a local read (`?consistency=local`) may be stale but works"
    )]
    NoLeader(String),
    /// This node is behind.
    #[error(
        "this node has applied entry {applied}, the read needs {wanted}, and {patience:?} were not enough; ask \
             another node, or read locally (`?consistency=local`)"
    )]
    Behind {
        /// The last entry applied here.
        applied: u64,
        /// The entry that the read must have seen.
        wanted: u64,
        /// How long it waited.
        patience: Duration,
    },
}

impl RaftNode {
    /// Returns once the local state holds everything that was acknowledged before this call, anywhere.
    ///
    /// # Errors
    /// [`ReadError`] if no leader with a majority is found, or this node does not catch up, in time.
    pub async fn linearizable(&self) -> Result<(), ReadError> {
        let patience = self.core.settings.patience;
        let local = |node: Self| -> BoxFuture<'static, _> {
            Box::pin(async move { read_index(&node).await })
        };
        let read = |reply| match reply {
            Response::ReadIndex(index) => Some(index),
            _ => None,
        };
        let wanted = self
            .at_leader(Ask::ReadIndex, patience.into(), local, read)
            .await
            .map_err(|error| {
                ReadError::NoLeader(match error {
                    ProposeError::Unknown { last, .. } => last,
                    ProposeError::NoLeader { last, .. } => {
                        last.unwrap_or_else(|| "nobody leads".into())
                    }
                    other => other.to_string(),
                })
            })?;
        let mut applied = self.core.shared.applied();
        let caught_up = applied.wait_for(|applied| *applied >= wanted);
        if timeout(patience, caught_up).await.is_err() {
            return Err(ReadError::Behind {
                applied: *self.core.shared.applied().borrow(),
                wanted,
                patience,
            });
        }
        Ok(())
    }
}

/// The entry that a read of now must have seen, confirmed by a majority.
pub(super) async fn read_index(node: &RaftNode) -> Attempt<u64> {
    let Some(voter) = &node.core.voter else {
        return Attempt::no_vote();
    };
    // A majority must answer after this, not have answered before.
    let _asking = node.core.words.ask();
    match voter.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _applied)) => Attempt::Done(read.log_id().index),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
            Attempt::Elsewhere(to.leader_id.map(NodeId), "this node does not lead".into())
        }
        Err(error) => Attempt::Unsure(error.to_string()),
    }
}
