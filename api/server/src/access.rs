//! Who may do what.
//!
//! A connection has an [`Origin`], put into the request by whoever accepted it: on the unix socket the file's
//! permission has decided already, over TLS a bearer token decides. A request without an origin may do nothing.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vipd_core::state::State as Cluster;
use vipd_core::time::Millis;
use vipd_core::token::Access;

use crate::clock;
use crate::erased::Daemon;
use crate::problem::Refusal;
use crate::secret::hash_token;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The unix socket: whoever may open it may do everything.
    Unix,
    /// TLS: what the token allows.
    Tls,
}

/// Lets requests through that may do what `needed` says.
pub(crate) async fn require(
    needed: Access,
    State(daemon): State<Daemon>,
    request: Request,
    next: Next,
) -> Response {
    match judge(needed, &daemon, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn judge(needed: Access, daemon: &Daemon, request: &Request) -> Result<(), Refusal> {
    match request.extensions().get::<Origin>() {
        Some(Origin::Unix) => Ok(()),
        Some(Origin::Tls) => {
            let token = bearer(request)?;
            let access = daemon.read(|state| access_of(state, token, clock::now()))?;
            if access >= needed {
                Ok(())
            } else {
                Err(forbidden(access, needed))
            }
        }
        None => Err(unauthorized(
            "no_token",
            "the request came by a way that grants nothing",
            NEED_TOKEN,
        )),
    }
}

const NEED_TOKEN: &str =
    "make a token on a node, as root: vipctl token create NAME --access read|write|admin";

fn bearer(request: &Request) -> Result<&str, Refusal> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized("no_token", "the request carries no token", NEED_TOKEN))?;
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    token.ok_or_else(|| {
        unauthorized(
            "bad_token",
            "the Authorization header is not Bearer TOKEN",
            NEED_TOKEN,
        )
    })
}

/// What `token` allows. The lookup is by hash, so its timing tells nothing about any token.
fn access_of(state: &Cluster, token: &str, now: Millis) -> Result<Access, Refusal> {
    let known = state.api_tokens().get(&hash_token(token));
    let known = known.ok_or_else(|| {
        unauthorized(
            "bad_token",
            "the token is not known to this cluster: mistyped, revoked, or another's",
            NEED_TOKEN,
        )
    })?;
    match known.expires {
        Some(expires) if now >= expires => Err(unauthorized(
            "token_expired",
            format!(
                "token {} expired at {}",
                known.name,
                clock::rfc3339(expires)
            ),
            NEED_TOKEN,
        )),
        Some(_) | None => Ok(known.access),
    }
}

fn unauthorized(reason: &str, detail: impl Into<String>, next: &str) -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        reason,
        "A good token is needed",
        detail,
        next,
    )
}

fn forbidden(access: Access, needed: Access) -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "The token does not allow it",
        format!("the token allows {access}, this needs {needed}"),
        format!(
            "use a token that allows {needed}; make one with: vipctl token create NAME --access {needed}"
        ),
    )
}
