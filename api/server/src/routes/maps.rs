//! `/v1/maps`: the maps that the answering node's daemon shares with the kernel's programs, decoded. Answered without a quorum too.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use vipd_api_types::{MapDump, MapList, Problem};

use super::balance::{NoParams, at_most, look, own_name};
use crate::erased::Daemon;
use crate::params::{Params, Path};
use crate::problem::Refusal;

/// Elements that are shown when it is not said how many.
const SHOWN: usize = 100;

/// Which elements.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ElementParams {
    /// Only those whose key, as it is shown, contains this.
    #[param(max_length = 256)]
    key: Option<String>,
    /// At most so many, 100 when it is left out.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
}

/// The maps that the daemon and its programs share.
#[utoipa::path(get, path = "/v1/maps", tag = "lb", operation_id = "list_maps",
    responses((status = 200, body = MapList), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Refusal> {
    let (items, place) = look(&daemon, |kernel| kernel.maps()).await?;
    let node = own_name(&daemon);
    Ok(place.held(Json(MapList { node, items }).into_response()))
}

/// Elements of a map.
#[utoipa::path(get, path = "/v1/maps/{name}", tag = "lb", operation_id = "get_map", params(("name" = String, Path), ElementParams),
    responses((status = 200, body = MapDump), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(asked): Params<ElementParams>,
) -> Result<Response, Refusal> {
    let limit = at_most(asked.limit.unwrap_or(SHOWN), "ask for fewer, or for a key")?;
    let map = name.clone();
    let ask = move |kernel: &dyn crate::Balancing| kernel.map(&map, asked.key.as_deref(), limit);
    let (found, place) = look(&daemon, ask).await?;
    let Some(mut found) = found else {
        return Err(Refusal::not_found("map that can be read", &name));
    };
    found.node = own_name(&daemon);
    Ok(place.held(Json(found).into_response()))
}
