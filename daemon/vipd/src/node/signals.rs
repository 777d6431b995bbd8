//! What the loop waits for besides events: to have caught up, to be stopped, to have failed.

use std::time::Duration;

use tokio::sync::watch;
use tracing::debug;
use vipd_raft::RaftNode;

use super::Ask;

/// Before a failed read is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Becomes true once a majority has confirmed that this node has seen all that was committed when it started.
pub(super) fn catch_up(raft: RaftNode) -> watch::Receiver<bool> {
    let (known, caught_up) = watch::channel(false);
    tokio::spawn(async move {
        while !known.is_closed() {
            match raft.linearizable().await {
                Ok(()) => {
                    known.send_replace(true);
                    return;
                }
                Err(error) => debug!("not caught up: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    caught_up
}

/// Why this node can no longer take part, once it cannot.
pub(super) async fn failure(failed: &mut watch::Receiver<Option<String>>) -> String {
    let why = failed.wait_for(Option::is_some).await;
    why.ok()
        .and_then(|why| why.clone())
        .unwrap_or_else(|| "the Raft node has ended".into())
}

/// Returns with what the node is asked once it is asked to end; a handle that is gone asks for nothing.
pub(super) async fn asked_to_end(asked: &mut watch::Receiver<Ask>) -> Ask {
    let ask = asked
        .wait_for(|ask| *ask != Ask::Nothing)
        .await
        .ok()
        .as_deref()
        .copied();
    match ask {
        Some(ask) => ask,
        None => std::future::pending().await,
    }
}
