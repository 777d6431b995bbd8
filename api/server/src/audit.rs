//! Who asks: kept beside a request while it is answered, put into what it proposes, and written to the node's log.
//!
//! A write is an event of the cluster with its asker. What a token does not allow is one too, but only a few an hour:
//! events go through the log, and whoever may not write must not fill it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Uri};
use axum::response::Response;
use vipd_core::asker::Who;
use vipd_core::command::Command;
use vipd_core::notice::Notice;
use vipd_core::token::Access;

use crate::control::ControlError;
use crate::erased::Daemon;

/// Refusals that a node tells the cluster within [`WINDOW`]: a thousand events are remembered, and who may only read must not
/// push what others did out of them within a day.
const TOLD: usize = 3;
/// See [`TOLD`].
const WINDOW: Duration = Duration::from_secs(600);
/// The most of a path that is told.
const PATH_TOLD: usize = 200;

tokio::task_local! {
    static ASKER: Who;
}

/// Answers a request that `who` sent: what it proposes meanwhile is proposed for him.
pub(crate) async fn asked_by(who: Who, answer: impl Future<Output = Response>) -> Response {
    ASKER.scope(who, answer).await
}

/// Whose request is being answered.
///
/// # Errors
/// When none is: nothing is proposed on nobody's behalf.
pub(crate) fn asker() -> Result<Who, ControlError> {
    ASKER
        .try_with(Who::clone)
        .map_err(|_| ControlError::Failed {
            what: "the API tried to write without knowing for whom; nothing was done".to_owned(),
            next: "report this as a bug of vipd".to_owned(),
        })
}

/// Writes a request that may have changed something to the node's log.
pub(crate) fn log(who: &Who, method: &Method, uri: &Uri, response: &Response) {
    if method.is_safe() {
        return;
    }
    let revision = response.headers().get("vipd-revision");
    let revision = revision.and_then(|value| HeaderValue::to_str(value).ok());
    let (path, status) = (uri.path(), response.status().as_u16());
    tracing::info!(target: "vipd::audit", %who, %method, path, status, revision, "API: a write");
}

/// Which refusals are told to the cluster.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    at: VecDeque<Instant>,
    more: u64,
}

impl Refusals {
    /// Counts one; if it is to be told, how many were not since the last that was.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.at.retain(|at| now.duration_since(*at) < WINDOW);
        if told.at.len() >= TOLD {
            told.more += 1;
            return None;
        }
        told.at.push_back(now);
        Some(std::mem::take(&mut told.more))
    }
}

/// A request that `who` may not make: to the node's log, and, if there were few of late, to the cluster's events.
pub(crate) fn refused(
    daemon: &Daemon,
    who: Who,
    (method, uri): (&Method, &Uri),
    (allows, needs): (Access, Access),
) {
    let path = uri.path();
    tracing::warn!(target: "vipd::audit", %who, %method, path, %allows, %needs, "API: refused");
    let Some(more) = daemon.refusals.count(Instant::now()) else {
        return;
    };
    let path: String = path.chars().take(PATH_TOLD).collect();
    let notice = Notice::Refused {
        asked: format!("{method} {path}"),
        allows,
        needs,
        more,
    };
    let daemon = daemon.clone();
    // Not awaited: whoever was refused has his answer, with or without a quorum.
    tokio::spawn(async move {
        let node = daemon.node();
        let told = Command::Notice { node, notice };
        if let Err(error) = ASKER.scope(who, daemon.propose(told)).await {
            tracing::debug!(%error, "API: a refusal was not told to the cluster");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_refusals_are_told_and_the_others_counted() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let told = (0..1000)
            .filter_map(|ms| refusals.count(start + Duration::from_millis(ms)))
            .count();
        assert_eq!(told, TOLD);
        let later = start + WINDOW + Duration::from_secs(1);
        assert_eq!(refusals.count(later), Some(1000 - TOLD as u64));
        assert_eq!(refusals.count(later), Some(0));
    }
}
