//! One write: proposed, or tried on a clone of the state.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vipd_api_types::DryRun;
use vipd_core::asker::Asker;
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

/// Writes, and answers with the object as `view` finds it afterwards, with its revision: 201 if this made it, 204 if this
/// deleted it.
pub(crate) async fn write<T: Serialize>(
    daemon: &Daemon,
    command: Command,
    params: WriteParams,
    view: impl Fn(Seen<'_>, &LocalStatus) -> Option<(T, u64)>,
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
        // Others may have changed it since, the more if this is the answer to a request that was sent again: the condition
        // under which it can be written is that of what is shown.
        Some((object, now)) => with_etag((status, Json(object)).into_response(), now),
        None => status.into_response(),
    };
    Ok(with_revision(response, revision(&applied).0))
}

/// Proposes, and waits until this node has applied it too.
pub(crate) async fn propose(daemon: &Daemon, command: Command) -> Result<Applied, Refusal> {
    daemon.begin()?;
    let applied = daemon.propose(once::ticketed(command)).await??;
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
    view: impl Fn(Seen<'_>, &LocalStatus) -> Option<(T, u64)>,
) -> Result<Response, Refusal> {
    daemon.may_propose(&command)?;
    daemon.linearize().await?;
    // Two copies of everything: as much work as a list.
    let who = audit::asker()?;
    let place = daemon.room.answer(&who)?;
    let _turn = daemon.room.make().await?;
    let node = daemon.node();
    let before = daemon.read(State::clone);
    let mut after = before.clone();
    after.apply(
        before.applied() + 1,
        &Proposal {
            at: clock::now(),
            command,
            // Whoever may not ask any more is refused as he would be in earnest.
            by: Some(Asker { node, who }),
        },
    )?;
    let object = view(Seen::Tried(&after), &daemon.local());
    let tried = Json(DryRun {
        dry_run: true,
        object: object.map(|(object, _)| object),
        changes: plan::changes(&before, &after),
    });
    Ok(place.held(tried.into_response()))
}

/// An object as an answer, with its revision as `ETag`.
pub(crate) fn object<T: Serialize>(object: &T, revision: u64) -> Response {
    with_revision(with_etag(Json(object).into_response(), revision), revision)
}

fn with_etag(mut response: Response, revision: u64) -> Response {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

fn with_revision(mut response: Response, revision: u64) -> Response {
    const VIPD_REVISION: HeaderName = HeaderName::from_static("vipd-revision");
    response
        .headers_mut()
        .insert(VIPD_REVISION, HeaderValue::from(revision));
    response
}
