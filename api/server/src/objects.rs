//! What is done to objects, the same way for each kind.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use vipd_api_types::Page;
use vipd_core::command::{Command, Expect};
use vipd_core::id::Revision;
use vipd_core::name::Name;
use vipd_core::pool::Care;
use vipd_core::state::State;

use crate::audit;
use crate::continued::Continued;
use crate::control::LocalStatus;
use crate::convert::{known_name, name_or_generated, same_name};
use crate::erased::Daemon;
use crate::kind::{Kind, Look, Writable};
use crate::limits;
use crate::merge::merge;
use crate::outlook::RunnersUp;
use crate::params::{ListParams, ReadParams, WriteParams, expect, unconditional};
use crate::problem::Refusal;
use crate::select::Filter;
use crate::strict;
use crate::watch;
use crate::write::{self, Seen};

/// The longest list that is made of the state itself; for longer ones applying would wait too long.
const SHORT: usize = 256;
/// How long a patch is tried anew on an object that others change meanwhile: it is answered within the time of any request.
const PATCH_WITHIN: Duration = Duration::from_secs(7);

/// Many of them, or a stream of their changes.
pub(crate) async fn list<K: Kind>(
    daemon: Daemon,
    params: ListParams,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let read = ReadParams {
        consistency: params.consistency,
    };
    read.ready(&daemon).await?;
    let filter = Filter::parse::<K>(
        params.label_selector.as_deref(),
        params.field_selector.as_deref(),
    )?;
    let last = watch::last_event_id(headers)?;
    if params.watch {
        return watch::open::<K>(daemon, &params, filter, last).await;
    }
    let limit = params.page()?;
    let from = Continued::from::<K>(&params)?;
    let place = daemon.room.answer(&audit::asker()?)?;
    let turn = daemon.room.make().await?;
    // Off the threads that answer everybody else.
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let page = page::<K>(&daemon, &filter, &from, limit)?;
        Ok(place.held(axum::Json(page).into_response()))
    });
    made.await.map_err(|cause| Refusal::broken(&cause))?
}

fn page<K: Kind>(
    daemon: &Daemon,
    filter: &Filter,
    from: &Continued,
    limit: usize,
) -> Result<Page<K>, Refusal> {
    let local = daemon.local();
    let short = filter.is_empty() && limit <= SHORT;
    let all = |state: &State| K::holders(state, None);
    let view = |state: &State, next: &RunnersUp| {
        let look = Look {
            state,
            local: &local,
            next,
        };
        collect(&look, filter, from, limit)
    };
    // Of the state itself: a copy remembers no changes.
    daemon.read(|state| from.good(state))?;
    if short || daemon.read(|state| all(state).is_empty()) {
        return Ok(daemon.outlook.look(daemon, all, view));
    }
    // A copy: to show thousands takes longer than an entry may wait.
    let copy = daemon.read(State::clone);
    Ok(view(&copy, &daemon.outlook.runners_up(&copy, all(&copy))))
}

fn collect<K: Kind>(look: &Look<'_>, filter: &Filter, from: &Continued, limit: usize) -> Page<K> {
    let mut page = Page {
        revision: from.revision(look.state),
        items: Vec::new(),
        next: None,
    };
    let mut last = None;
    for name in K::names(look.state, from.after()) {
        let Some(object) = filter.show::<K>(look, &name) else {
            continue;
        };
        if limit == page.items.len() {
            page.next = last.map(|last| from.go_on(page.revision, &last));
            break;
        }
        page.items.push(object);
        last = Some(name);
    }
    page
}

/// One.
pub(crate) async fn get<K: Kind>(
    daemon: &Daemon,
    name: &str,
    params: ReadParams,
) -> Result<Response, Refusal> {
    params.ready(daemon).await?;
    let known = known_name(K::WORD, name)?;
    let object = see::<K>(Seen::Done(daemon), &daemon.local(), &known);
    let object = object.ok_or_else(|| Refusal::not_found(K::WORD, name))?;
    Ok(write::object(&object, object.revision()))
}

/// Makes one, under a generated name if it has none.
pub(crate) async fn create<K: Writable>(
    daemon: &Daemon,
    params: WriteParams,
    care: Care,
    headers: &HeaderMap,
    body: K::Write,
) -> Result<Response, Refusal> {
    unconditional(headers)?;
    let name = name_or_generated(K::given(&body), K::STEM)?;
    let command = K::put(name.clone(), body, Expect::Absent, care)?;
    write::<K>(daemon, name, command, params).await
}

/// Makes or replaces one.
pub(crate) async fn put<K: Writable>(
    daemon: &Daemon,
    name: &str,
    params: WriteParams,
    care: Care,
    headers: &HeaderMap,
    body: K::Write,
) -> Result<Response, Refusal> {
    let (name, expect) = (same_name(name, K::given(&body))?, expect(headers)?);
    let command = K::put(name.clone(), body, expect, care)?;
    let written = write::<K>(daemon, name, command, params).await;
    written.map_err(|refusal| unmet(expect, refusal))
}

/// That there is such an object already breaks a condition of the request (RFC 9110, 13.1.2), where it has that one.
fn unmet(expect: Expect, mut refusal: Refusal) -> Refusal {
    if expect == Expect::Absent && refusal.0.reason == "already_exists" {
        refusal.0.status = StatusCode::PRECONDITION_FAILED.as_u16();
    }
    refusal
}

/// Deletes one.
pub(crate) async fn delete<K: Writable>(
    daemon: &Daemon,
    name: &str,
    params: WriteParams,
    care: Care,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let name = known_name(K::WORD, name)?;
    let command = K::delete(name.clone(), expect(headers)?, care);
    write::<K>(daemon, name, command, params).await
}

/// Changes parts of one by a merge patch; what comes of it is judged as if it had been put.
///
/// Without `If-Match` it is tried anew when somebody else was faster: a patch says what shall change, whatever the rest is. Those
/// that were too slow once go one by one at this node from then on: what they lose to is done, so there is ever less of it.
pub(crate) async fn patch<K: Writable>(
    daemon: &Daemon,
    name: &str,
    params: WriteParams,
    care: Care,
    headers: &HeaderMap,
    patch: &Value,
) -> Result<Response, Refusal> {
    strict::known_fields::<K::Write>(patch)?;
    let (name, asked) = (known_name(K::WORD, name)?, expect(headers)?);
    let deadline = Instant::now() + PATCH_WITHIN;
    let mut turn = None;
    loop {
        daemon.linearize().await?;
        let (mut object, revision) = as_written::<K>(daemon, &name)?;
        merge(&mut object, patch);
        limits::check(&object)?;
        let body = strict::typed::<K::Write>(&object)?;
        let name = same_name(name.as_str(), K::given(&body))?;
        let based = Expect::At {
            revision: Revision(revision),
        };
        let expect = if asked == Expect::Any { based } else { asked };
        let command = K::put(name.clone(), body, expect, care)?;
        match write::<K>(daemon, name, command, params).await {
            Err(refusal) if refusal.0.status == 412 && asked == Expect::Any => {}
            done => return done.map_err(|refusal| unmet(asked, refusal)),
        }
        if turn.is_none() {
            let wait = timeout_at(deadline, daemon.patches.lock());
            turn = Some(wait.await.map_err(|_| contended())?);
        }
        if Instant::now() >= deadline {
            return Err(contended());
        }
    }
}

/// What is answered to a patch that others were faster than each time.
fn contended() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "contended",
        "Others change it all the time",
        format!(
            "others changed the object each time that this patch was about to be written, for {} s; nothing was changed",
            PATCH_WITHIN.as_secs()
        ),
        "try again; if it stays so, see in vipctl events who writes",
    )
}

/// An object as its writer would put it, and its revision.
fn as_written<K: Writable>(daemon: &Daemon, name: &Name) -> Result<(Value, u64), Refusal> {
    let local = daemon.local();
    let object = daemon.read(|state| {
        let look = Look {
            state,
            local: &local,
            next: &RunnersUp::default(),
        };
        K::show(&look, name)
    });
    let object = object.ok_or_else(|| Refusal::not_found(K::WORD, name.as_str()))?;
    let mut value = serde_json::to_value(&object).unwrap_or(Value::Null);
    if let Value::Object(members) = &mut value {
        members.retain(|key, _| key == "labels" || key == "spec");
    }
    Ok((value, object.revision()))
}

/// Has a command applied, and answers with the object that it is about.
pub(crate) async fn write<K: Kind>(
    daemon: &Daemon,
    name: Name,
    command: Command,
    params: WriteParams,
) -> Result<Response, Refusal> {
    write::write(daemon, command, params, |seen, local| {
        let object = see::<K>(seen, local, &name)?;
        let revision = object.revision();
        Some((object, revision))
    })
    .await
}

fn see<K: Kind>(seen: Seen<'_>, local: &LocalStatus, name: &Name) -> Option<K> {
    let holders = |state: &State| K::holders(state, Some(name));
    let view = |state: &State, next: &RunnersUp| {
        let look = Look { state, local, next };
        K::show(&look, name)
    };
    match seen {
        Seen::Done(daemon) => daemon.outlook.look(daemon, holders, view),
        Seen::Tried(state) => view(state, &RunnersUp::new(state, holders(state))),
    }
}
