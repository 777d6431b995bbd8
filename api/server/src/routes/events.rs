//! `/v1/events`: what happened, and with `?watch=1` what happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use vipd_api_types::{Event, List, Problem};

use crate::convert;
use crate::erased::Daemon;
use crate::params::{EventParams, Params, ReadParams};
use crate::problem::Refusal;

/// Below the clients' patience with silence, so that a quiet stream is told from a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The newest events that the cluster remembers, oldest first.
#[utoipa::path(get, path = "/v1/events", tag = "cluster", operation_id = "list_events", params(EventParams),
    responses((status = 200, content((List<Event> = "application/json"), (Event = "text/event-stream"))),
        (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<EventParams>,
) -> Result<Response, Refusal> {
    ReadParams {
        consistency: params.consistency,
    }
    .ready(&daemon)
    .await?;
    if params.watch {
        let newest = || daemon.read(|state| state.events().back().map_or(0, |event| event.seq));
        let after = params.after.unwrap_or_else(newest);
        return Ok(Sse::new(follow(daemon, after))
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response());
    }
    let items = since(&daemon, params.after.unwrap_or(0)).into();
    Ok(Json(List {
        revision: daemon.read(|state| state.applied()),
        items,
    })
    .into_response())
}

fn since(daemon: &Daemon, after: u64) -> VecDeque<Event> {
    daemon.read(|state| {
        let newer = state.events().iter().skip_while(|event| event.seq <= after);
        newer
            .map(|event| convert::event::to_wire(state, event))
            .collect()
    })
}

struct Follower {
    daemon: Daemon,
    applied: watch::Receiver<u64>,
    after: u64,
    ready: VecDeque<Event>,
}

/// Nothing is queued for a slow reader but what it has asked for: it reads the cluster's own memory at its pace.
fn follow(daemon: Daemon, after: u64) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let applied = daemon.applied();
    let follower = Follower {
        daemon,
        applied,
        after,
        ready: VecDeque::new(),
    };
    stream::unfold(follower, async |mut follower| {
        loop {
            if let Some(event) = follower.ready.pop_front() {
                follower.after = event.seq;
                let message = sse::Event::default().id(event.seq.to_string());
                let message = message.json_data(&event).unwrap_or_default();
                return Some((Ok(message), follower));
            }
            follower.applied.mark_unchanged();
            follower.ready = since(&follower.daemon, follower.after);
            if follower.ready.is_empty() && follower.applied.changed().await.is_err() {
                return None; // the node is gone
            }
        }
    })
}
