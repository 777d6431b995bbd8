//! `/v1/tokens`: access over TLS.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use vipd_api_types::{ApiToken, IssuedToken, List, Problem, TokenRequest};
use vipd_core::command::Command;
use vipd_core::time::Millis;

use crate::clock;
use crate::convert::{self, known_name, new_name, token::access_from_wire};
use crate::erased::Daemon;
use crate::params::{Params, Path, ReadParams, WriteParams};
use crate::problem::Refusal;
use crate::secret::new_token;
use crate::strict::Strict;
use crate::write;

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens", params(ReadParams),
    responses((status = 200, body = List<ApiToken>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<List<ApiToken>>, Refusal> {
    params.ready(&daemon).await?;
    let mut tokens = daemon.read(|state| List {
        revision: state.applied(),
        items: state
            .api_tokens()
            .values()
            .map(convert::token::to_wire)
            .collect::<Vec<_>>(),
    });
    tokens.items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(tokens))
}

/// Make a token. Its secret is shown once.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", operation_id = "create_token", request_body = TokenRequest,
    params(WriteParams), responses((status = 201, body = IssuedToken), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
    Strict(body): Strict<TokenRequest>,
) -> Result<Response, Refusal> {
    if body.ttl_seconds == Some(0) {
        return Err(Refusal::invalid(
            "ttl_seconds 0 would make a token that has expired",
        ));
    }
    let (token, hash) = new_token();
    let expires = body
        .ttl_seconds
        .map(|ttl| Millis(clock::now().0.saturating_add(ttl.saturating_mul(1000))));
    let name = new_name(&body.name)?;
    let command = Command::PutApiToken {
        token: hash,
        name,
        access: access_from_wire(body.access),
        expires,
    };
    if params.dry_run {
        return write::write(&daemon, command, params, |seen, _| {
            seen.read(|state| {
                let token = state.api_tokens().get(&hash)?;
                Some((convert::token::to_wire(token), token.made.0))
            })
        })
        .await;
    }
    write::propose(&daemon, command).await?;
    let expires = expires.map(clock::rfc3339);
    let issued = IssuedToken {
        name: body.name,
        access: body.access,
        token,
        expires,
    };
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

/// Revoke a token.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "tokens", operation_id = "delete_token",
    params(("name" = String, Path), WriteParams),
    responses((status = 204, description = "Revoked"), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
) -> Result<Response, Refusal> {
    let name = known_name("token", &name)?;
    let command = Command::DeleteApiToken { name };
    write::write(&daemon, command, params, |_, _| None::<(ApiToken, u64)>).await
}
