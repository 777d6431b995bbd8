//! One write: proposed, or tried on a clone of the state.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vipd_api_types::DryRun;
use vipd_core::command::{Applied, Command, Proposal};
use vipd_core::id::Revision;
use vipd_core::state::State;

use crate::clock;
use crate::control::LocalStatus;
use crate::erased::Daemon;
use crate::params::WriteParams;
use crate::plan;
use crate::problem::Refusal;

/// How long the asked node may take to apply what the leader has already decided.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Writes, and answers with the object as `view` finds it afterwards: 201 if it is new, 204 if it is gone.
pub(crate) async fn write<T: Serialize>(
    daemon: &Daemon,
    command: Command,
    params: WriteParams,
    view: impl Fn(&State, &LocalStatus) -> Option<T>,
) -> Result<Response, Refusal> {
    if params.dry_run {
        return try_out(daemon, command, view).await;
    }
    let local = daemon.local();
    let existed = daemon.read(|state| view(state, &local).is_some());
    let revision = propose(daemon, command).await?;
    let local = daemon.local();
    let response = match daemon.read(|state| view(state, &local)) {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(object) if existed => Json(object).into_response(),
        Some(object) => (StatusCode::CREATED, Json(object)).into_response(),
    };
    Ok(with_revision(response, revision.0))
}

/// Proposes, and waits until this node has applied it too.
pub(crate) async fn propose(daemon: &Daemon, command: Command) -> Result<Revision, Refusal> {
    let revision = match daemon.propose(command).await?? {
        Applied::Done { revision } => revision,
        Applied::Joined { node, role: _ } => Revision(node.0),
    };
    caught_up(daemon, revision).await?;
    Ok(revision)
}

async fn caught_up(daemon: &Daemon, revision: Revision) -> Result<(), Refusal> {
    let mut applied = daemon.applied();
    let wait = applied.wait_for(|applied| *applied >= revision.0);
    match tokio::time::timeout(CATCH_UP, wait).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "not_caught_up",
            "It was done, but this node lags",
            format!(
                "done at revision {revision}, which this node has not applied within {} s",
                CATCH_UP.as_secs()
            ),
            "read it from another node; see vipctl cluster members for who lags",
        )),
    }
}

async fn try_out<T: Serialize>(
    daemon: &Daemon,
    command: Command,
    view: impl Fn(&State, &LocalStatus) -> Option<T>,
) -> Result<Response, Refusal> {
    daemon.linearize().await?;
    let before = daemon.read(State::clone);
    let mut after = before.clone();
    after.apply(
        before.applied() + 1,
        &Proposal {
            at: clock::now(),
            command,
        },
    )?;
    let object = view(&after, &daemon.local());
    Ok(Json(DryRun {
        dry_run: true,
        object,
        changes: plan::changes(&before, &after),
    })
    .into_response())
}

/// An object as an answer, with its revision as `ETag`.
pub(crate) fn object<T: Serialize>(object: &T, revision: u64) -> Response {
    with_revision(Json(object).into_response(), revision)
}

fn with_revision(mut response: Response, revision: u64) -> Response {
    const VIPD_REVISION: HeaderName = HeaderName::from_static("vipd-revision");
    if let Ok(value) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
        .headers_mut()
        .insert(VIPD_REVISION, HeaderValue::from(revision));
    response
}
