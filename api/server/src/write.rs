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

use crate::audit;
use crate::clock;
use crate::control::LocalStatus;
use crate::erased::Daemon;
use crate::once;
use crate::params::WriteParams;
use crate::plan;
use crate::problem::Refusal;

/// How long the asked node may take to apply what the leader has already decided.
const CATCH_UP: Duration = Duration::from_secs(3);

/// What is to be seen of an object after a write: the cluster as it is, or as it would be.
#[derive(Clone, Copy)]
pub(crate) enum Seen<'a> {
    /// It was written.
    Done(&'a Daemon),
    /// It was only tried.
    Tried(&'a State),
}

impl Seen<'_> {
    /// Looks at the state; a short look, see [`crate::Control::read`].
    pub(crate) fn read<R>(self, look: impl FnOnce(&State) -> R) -> R {
        match self {
            Self::Done(daemon) => daemon.read(look),
            Self::Tried(state) => look(state),
        }
    }
}

/// Writes, and answers with the object as `view` finds it afterwards: 201 if this made it, 204 if this deleted it.
pub(crate) async fn write<T: Serialize>(
    daemon: &Daemon,
    command: Command,
    params: WriteParams,
    view: impl Fn(Seen<'_>, &LocalStatus) -> Option<T>,
) -> Result<Response, Refusal> {
    if params.dry_run {
        return try_out(daemon, command, view).await;
    }
    let deletes = matches!(
        command,
        Command::DeletePool { .. }
            | Command::DeleteVip { .. }
            | Command::DeletePolicy { .. }
            | Command::DeleteApiToken { .. }
    );
    let applied = propose(daemon, command).await?;
    // What this command did decides the status; what others did since then only what is shown.
    let status = match applied {
        Applied::Created { .. } => StatusCode::CREATED,
        Applied::Done { .. } | Applied::Joined { .. } if deletes => StatusCode::NO_CONTENT,
        Applied::Done { .. } | Applied::Joined { .. } => StatusCode::OK,
    };
    let object = match deletes {
        true => None,
        false => view(Seen::Done(daemon), &daemon.local()),
    };
    let response = match object {
        Some(object) => (status, Json(object)).into_response(),
        None => status.into_response(),
    };
    Ok(with_revision(response, revision(&applied).0))
}

/// Proposes, and waits until this node has applied it too.
pub(crate) async fn propose(daemon: &Daemon, command: Command) -> Result<Applied, Refusal> {
    let room = daemon.room.write(&audit::asker()?)?;
    let applied = daemon.propose(once::ticketed(command)).await??;
    drop(room);
    caught_up(daemon, revision(&applied)).await?;
    Ok(applied)
}

fn revision(applied: &Applied) -> Revision {
    match applied {
        Applied::Done { revision } | Applied::Created { revision } => *revision,
        Applied::Joined { node, role: _ } => Revision(node.0),
    }
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
    view: impl Fn(Seen<'_>, &LocalStatus) -> Option<T>,
) -> Result<Response, Refusal> {
    daemon.linearize().await?;
    // Two copies of everything: as much work as a list.
    let _room = daemon.room.list().await?;
    let before = daemon.read(State::clone);
    let mut after = before.clone();
    after.apply(
        before.applied() + 1,
        &Proposal {
            at: clock::now(),
            command,
            by: None,
        },
    )?;
    let object = view(Seen::Tried(&after), &daemon.local());
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
