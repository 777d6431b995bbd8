//! The routes, grouped by what a token must allow: the group is the check, so no route can forget it.

mod backup;
mod balance;
mod cluster;
mod events;
mod health;
mod maps;
mod nodes;
mod plan;
mod policies;
mod pools;
mod removal;
mod tokens;
mod vips;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, extract::State};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vipd_api_types::{REMOVAL_WITHIN, RESTORE_WITHIN};
use vipd_core::token::Access;

use crate::access;
use crate::control::Control;
use crate::erased::Daemon;
use crate::limits;
use crate::once;
use crate::openapi;
use crate::problem::{Reason, Refusal};

/// The longest that one request may take until its answer begins, but for a restore and a removal; a stream may go on.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The API of one node, ready to be served on any number of listeners. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Everything.
    pub(crate) full: Router,
    /// What needs no token: metrics and health, for a listener of their own.
    pub(crate) monitoring: Router,
}

impl Api {
    /// The API of the node behind `control`.
    #[must_use]
    pub fn new<C: Control>(control: Arc<C>) -> Self {
        let daemon = Daemon::new(control);
        let (reads, _) = reads().split_for_parts();
        let (writes, _) = writes().split_for_parts();
        let (admin, _) = admin().split_for_parts();
        let (open, _) = open().split_for_parts();
        let guarded = |router: Router<Daemon>, needed: Access| {
            let check = move |state, request, next| access::require(needed, state, request, next);
            router.route_layer(middleware::from_fn_with_state(daemon.clone(), check))
        };
        // Within the check, so that nobody is answered who may not ask.
        let writes = writes.route_layer(middleware::from_fn(once::remember));
        let admin = admin.route_layer(middleware::from_fn(once::refuse));
        let full = open
            .clone()
            .merge(guarded(reads, Access::Read))
            .merge(guarded(writes, Access::Write))
            .merge(guarded(admin, Access::Admin))
            // The same for everybody, and in every package: no token is asked for.
            .route("/v1/openapi.json", get(async || Json(openapi::document())));
        let (metrics, _) = OpenApiRouter::new()
            .routes(routes!(health::metrics))
            .split_for_parts();
        Self {
            full: finish(full, &daemon),
            monitoring: finish(open.merge(metrics), &daemon),
        }
    }
}

fn finish(router: Router<Daemon>, daemon: &Daemon) -> Router {
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(limits::BODY))
        .layer(middleware::from_fn_with_state(daemon.clone(), watch_over))
        .with_state(daemon.clone())
}

/// Every route, for the OpenAPI document.
pub(crate) fn all() -> OpenApiRouter<Daemon> {
    let base = OpenApiRouter::with_openapi(openapi::Base::openapi());
    let groups = grouped().into_iter();
    groups.fold(base, |all, (_, group)| all.merge(group))
}

/// The routes by what a token must allow at least; `None` needs no token.
pub(crate) fn grouped() -> [(Option<Access>, OpenApiRouter<Daemon>); 4] {
    [
        (None, open()),
        (Some(Access::Read), reads()),
        (Some(Access::Write), writes()),
        (Some(Access::Admin), admin()),
    ]
}

fn open() -> OpenApiRouter<Daemon> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
}

fn reads() -> OpenApiRouter<Daemon> {
    OpenApiRouter::new()
        .routes(routes!(pools::list))
        .routes(routes!(pools::get))
        .routes(routes!(vips::list))
        .routes(routes!(vips::get))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::get))
        .routes(routes!(policies::list))
        .routes(routes!(policies::get))
        .routes(routes!(plan::plan))
        .routes(routes!(cluster::get))
        .routes(routes!(events::list))
        .routes(routes!(balance::services))
        .routes(routes!(balance::connections))
        .routes(routes!(balance::affinity))
        .routes(routes!(balance::maglev))
        .routes(routes!(maps::list))
        .routes(routes!(maps::get))
        .routes(routes!(balance::trace))
        .routes(routes!(health::metrics))
}

fn writes() -> OpenApiRouter<Daemon> {
    OpenApiRouter::new()
        .routes(routes!(pools::create))
        .routes(routes!(pools::put, pools::patch, pools::delete))
        .routes(routes!(vips::create))
        .routes(routes!(vips::put, vips::patch, vips::delete))
        .routes(routes!(vips::move_to))
        .routes(routes!(policies::create))
        .routes(routes!(policies::put, policies::patch, policies::delete))
        .routes(routes!(plan::rebalance))
        .routes(routes!(nodes::patch))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
}

fn admin() -> OpenApiRouter<Daemon> {
    OpenApiRouter::new()
        .routes(routes!(cluster::add_member))
        .routes(routes!(cluster::remove_member))
        .routes(routes!(cluster::snapshot))
        .routes(routes!(cluster::join_token))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(backup::take))
        .merge(large())
}

/// What takes larger bodies than the rest.
fn large() -> OpenApiRouter<Daemon> {
    OpenApiRouter::new()
        .routes(routes!(backup::restore))
        .layer(DefaultBodyLimit::max(backup::LIMIT))
}

/// The longest that this request may take until its answer begins.
fn answer_within(method: &Method, path: &str) -> Duration {
    if path == backup::RESTORE {
        RESTORE_WITHIN
    } else if method == Method::DELETE && path.starts_with("/v1/cluster/members/") {
        REMOVAL_WITHIN
    } else {
        ANSWER_WITHIN
    }
}

/// Bounds the time of a request and counts how it ended.
async fn watch_over(State(daemon): State<Daemon>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let within = answer_within(&method, &path);
    let answered = tokio::time::timeout(within, next.run(request)).await;
    let response = answered.unwrap_or_else(|_| {
        let seconds = within.as_secs();
        Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timed_out",
            "The node did not finish in time",
            format!(
                "{method} {path} took longer than {seconds} s; a write may still be carried out"
            ),
            "read it again before repeating; see vipctl status for the quorum",
        )
        .into_response()
    });
    let reason = response
        .extensions()
        .get::<Reason>()
        .map(|reason| reason.0.as_str());
    tracing::debug!(%method, path, status = response.status().as_u16(), reason, "request");
    daemon.counters.count(&method, response.status(), reason);
    response
}

async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        "There is no such path",
        format!("{} is no path of this API", uri.path()),
        "the paths are in /v1/openapi.json",
    )
}

async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no_such_method",
        "The path does not take that method",
        format!("{} does not take {method}", uri.path()),
        "the methods of each path are in /v1/openapi.json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restores_and_removals_have_the_time_that_they_take_and_all_else_ten_seconds() {
        for (method, path, within) in [
            (Method::POST, "/v1/cluster/restore", RESTORE_WITHIN),
            (Method::DELETE, "/v1/cluster/members/n2", REMOVAL_WITHIN),
            (Method::POST, "/v1/cluster/members", ANSWER_WITHIN),
            (Method::DELETE, "/v1/vips/www", ANSWER_WITHIN),
            (Method::GET, "/v1/vips", ANSWER_WITHIN),
        ] {
            assert_eq!(answer_within(&method, path), within, "{method} {path}");
        }
    }
}
