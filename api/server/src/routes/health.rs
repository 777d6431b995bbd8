//! `/healthz`, `/readyz`, `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use vipd_api_types::Health;

use crate::control::LocalStatus;
use crate::erased::Daemon;
use crate::metrics;

/// Whether the daemon runs.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "healthz",
    responses((status = 200, body = Health)))]
pub(super) async fn alive() -> Json<Health> {
    Json(Health {
        ok: true,
        problems: Vec::new(),
    })
}

/// Whether the node can do its work: quorum, leader and datapath.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "readyz",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn ready(State(daemon): State<Daemon>) -> Response {
    let problems = problems(&daemon.local());
    let ok = problems.is_empty();
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Health { ok, problems })).into_response()
}

fn problems(local: &LocalStatus) -> Vec<String> {
    let quorum =
        (!local.quorum_ok).then(|| "quorum: a majority of the voters is out of reach".to_owned());
    let leader = local
        .leader
        .is_none()
        .then(|| "leader: none is known".to_owned());
    let datapath = local
        .datapath_fault
        .as_ref()
        .map(|fault| format!("datapath: {fault}"));
    quorum.into_iter().chain(leader).chain(datapath).collect()
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(daemon): State<Daemon>) -> Response {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        metrics::scrape(&daemon),
    )
        .into_response()
}
