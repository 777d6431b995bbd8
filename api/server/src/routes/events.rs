//! `/v1/events`: what happened, and with `?watch=1` what happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch::Receiver;
use vipd_api_types::{Event, List, Problem};
use vipd_core::state::State as Cluster;

use crate::audit;
use crate::convert;
use crate::erased::Daemon;
use crate::params::{Consistency, EventParams, Params, ReadParams};
use crate::problem::Refusal;
use crate::room::Place;
use crate::watch;

/// Below the clients' patience with silence, so that a quiet stream is told from a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The newest events that the cluster remembers, oldest first: a thousand, or more when one entry made more. A watch for which
/// that was too short ends with a message `error` whose data is a `Problem`, `events_expired`.
#[utoipa::path(get, path = "/v1/events", tag = "cluster", operation_id = "list_events", params(EventParams, ("Last-Event-ID" = Option<u64>, Header, description = "For a watch: the id of the last event.")),
    responses((status = 200, content((List<Event> = "application/json"), (Event = "text/event-stream"))),
        (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    ReadParams {
        consistency: params.consistency,
    }
    .ready(&daemon)
    .await?;
    let last = watch::last_event_id(&headers)?;
    if params.watch {
        let place = daemon.room.watch(&audit::asker()?)?;
        let newest = daemon.read(|state| state.events().back().map_or(0, |event| event.seq));
        let after = last.or(params.after).unwrap_or(newest);
        if after > newest && params.consistency == Consistency::Linearizable {
            return Err(Refusal::bad_request(
                "bad_revision",
                format!("event {after} is beyond {newest}, which is the newest there is"),
                "go on after the last event that came",
            ));
        }
        // Whoever asks from the beginning wants what there is.
        if after > 0 {
            daemon.read(|state| whole(state, after))?;
        }
        return Ok(Sse::new(follow(daemon, after, place))
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response());
    }
    let items = daemon.read(|state| since(state, params.after.unwrap_or(0)));
    let items = items.into();
    Ok(Json(List {
        revision: daemon.read(|state| state.applied()),
        items,
    })
    .into_response())
}

fn since(state: &Cluster, after: u64) -> VecDeque<Event> {
    let newer = state.events().iter().skip_while(|event| event.seq <= after);
    newer
        .map(|event| convert::event::to_wire(state, event))
        .collect()
}

/// Refuses to go on after an event when some that followed it are forgotten.
fn whole(state: &Cluster, after: u64) -> Result<(), Refusal> {
    match state.events().front() {
        Some(first) if first.seq > after + 1 => Err(Refusal::new(
            StatusCode::GONE,
            "events_expired",
            "Events are forgotten",
            format!(
                "events {} to {} are not remembered any more",
                after + 1,
                first.seq - 1
            ),
            "go on with after=0, which begins with the oldest that is remembered; each node's log has the writes it was asked for",
        )),
        Some(_) | None => Ok(()),
    }
}

struct Follower {
    _place: Place,
    daemon: Daemon,
    applied: Receiver<u64>,
    after: u64,
    ready: VecDeque<Event>,
    over: bool,
}

/// Nothing is queued for a slow reader but what it has asked for: it reads the cluster's own memory at its pace. One for whom
/// that is too short is told so, and the stream ends.
fn follow(
    daemon: Daemon,
    after: u64,
    place: Place,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let applied = daemon.applied();
    let follower = Follower {
        _place: place,
        daemon,
        applied,
        after,
        ready: VecDeque::new(),
        over: false,
    };
    stream::unfold(follower, async |mut follower| {
        loop {
            if let Some(event) = follower.ready.pop_front() {
                follower.after = event.seq;
                let message = sse::Event::default().id(event.seq.to_string());
                let message = message.json_data(&event).unwrap_or_default();
                return Some((Ok(message), follower));
            }
            if follower.over {
                return None;
            }
            follower.applied.mark_unchanged();
            let after = follower.after;
            let read = follower.daemon.read(|state| {
                let gap = if after > 0 {
                    whole(state, after)
                } else {
                    Ok(())
                };
                gap.map(|()| since(state, after))
            });
            match read {
                Ok(ready) => follower.ready = ready,
                Err(gap) => {
                    follower.over = true;
                    let message = sse::Event::default().event("error");
                    let message = message.json_data(&*gap.0).unwrap_or_default();
                    return Some((Ok(message), follower));
                }
            }
            if follower.ready.is_empty() && follower.applied.changed().await.is_err() {
                return None; // the node is gone
            }
        }
    })
}
