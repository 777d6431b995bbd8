//! How much is done at a time, so that no client holds up the cluster: what does not fit is told to come again.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Refusal;

/// Writes on their way through the log at a time; it takes some milliseconds to apply so many.
const WRITES: usize = 256;
/// Lists being made at a time. Each may be of a hundred thousand objects, and keeps one core busy.
const LISTS: usize = 2;
/// The longest that a list waits for its turn.
const LIST_WITHIN: Duration = Duration::from_secs(3);
/// Watches at a time.
const WATCHES: usize = 128;

/// What is free of it.
pub(crate) struct Room {
    writes: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let of = |n| Arc::new(Semaphore::new(n));
        Self {
            writes: of(WRITES),
            lists: of(LISTS),
            watches: of(WATCHES),
        }
    }
}

impl Room {
    /// Room for one write, whose body has been read: a slow sender takes none.
    pub(crate) fn write(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = self.writes.clone().try_acquire_owned();
        permit.map_err(|_| full(format!("{WRITES} writes are on their way already")))
    }

    /// Room for one list, after a while.
    pub(crate) async fn list(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = tokio::time::timeout(LIST_WITHIN, self.lists.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok);
        permit.ok_or_else(|| {
            let seconds = LIST_WITHIN.as_secs();
            full(format!(
                "{LISTS} lists at a time are made, and it was not this one's turn within {seconds} s"
            ))
        })
    }

    /// Room for one watch, for as long as it lasts.
    pub(crate) fn watch(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = self.watches.clone().try_acquire_owned();
        permit.map_err(|_| full(format!("{WATCHES} watches are open already")))
    }
}

fn full(why: String) -> Refusal {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        "The node has enough to do",
        why,
        "ask again after the seconds that Retry-After says, or ask another node",
    )
}
