//! Who may do what.
//!
//! A connection has an [`Origin`], put into the request by whoever accepted it: on the unix socket the file's
//! permission has decided already, over TLS a bearer token decides. A request without an origin may do nothing.
//!
//! A token that is revoked stops at once: what is written with it is refused where the log says that it was revoked
//! before (`State::apply`), whichever node was asked; an answer is held back if the token ended while it was made, and
//! a stream ends with its next line. Only a `?consistency=local` read of a node that has not heard of it yet goes through.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use vipd_core::asker::{TokenId, Who};
use vipd_core::state::State as Cluster;
use vipd_core::time::Millis;
use vipd_core::token::{Access, TokenHash};

use crate::audit;
use crate::clock;
use crate::erased::Daemon;
use crate::problem::Refusal;
use crate::room;
use crate::secret::hash_token;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The unix socket: whoever may open it may do everything.
    Unix {
        /// Who opened it.
        uid: u32,
    },
    /// The network: what the token allows.
    Network,
}

/// Lets requests through that may do what `needed` says.
pub(crate) async fn require(
    needed: Access,
    State(daemon): State<Daemon>,
    request: Request,
    next: Next,
) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let pass = match judge(&daemon, &request) {
        Ok(pass) => pass,
        Err(refusal) => return refusal.into_response(),
    };
    if pass.access < needed {
        let allowed = (pass.access, needed);
        audit::refused(&daemon, pass.who, (&method, &uri), allowed);
        return forbidden(pass.access, needed).into_response();
    }
    let answer = audit::asked_by(pass.who.clone(), next.run(request));
    if method.is_safe() {
        let answered = answer.await;
        return match pass.token {
            Some(token) => while_good(daemon, token, answered),
            None => answered,
        };
    }
    // A task of its own: whoever hangs up leaves a write that is carried to its end, and into the node's log.
    let carried = tokio::spawn(async move {
        let answered = room::carried(answer).await;
        audit::log(&pass.who, &method, &uri, &answered);
        answered
    });
    let carried = carried.await;
    carried.unwrap_or_else(|cause| Refusal::broken(&cause).into_response())
}

/// What a request was let in with.
struct Pass {
    who: Who,
    access: Access,
    token: Option<TokenHash>,
}

fn judge(daemon: &Daemon, request: &Request) -> Result<Pass, Refusal> {
    match request.extensions().get::<Origin>() {
        Some(Origin::Unix { uid }) => Ok(Pass {
            who: Who::Local { uid: *uid },
            access: Access::Admin,
            token: None,
        }),
        Some(Origin::Network) => {
            let token = hash_token(bearer(request)?);
            let (id, access) = daemon.read(|state| access_of(state, &token, clock::now()))?;
            Ok(Pass {
                who: Who::Token { token: id },
                access,
                token: Some(token),
            })
        }
        None => Err(unauthorized(
            "no_token",
            "the request came by a way that grants nothing",
            NEED_TOKEN,
        )),
    }
}

/// An answer to a reader, as long as his token is good. By now this node has seen all that the read had to see.
fn while_good(daemon: Daemon, token: TokenHash, answer: Response) -> Response {
    let good = move || daemon.read(|state| access_of(state, &token, clock::now()).map(drop));
    if let Err(refusal) = good() {
        return refusal.into_response();
    }
    let (head, body) = answer.into_parts();
    if !is_stream(&head) {
        return Response::from_parts(head, body);
    }
    let lines = body.into_data_stream();
    let lines = lines.take_while(move |_| std::future::ready(good().is_ok()));
    Response::from_parts(head, Body::from_stream(lines))
}

fn is_stream(head: &axum::http::response::Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
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

/// Whose `token` is, and what it allows. The lookup is by hash, so its timing tells nothing about any token.
fn access_of(
    state: &Cluster,
    token: &TokenHash,
    now: Millis,
) -> Result<(TokenId, Access), Refusal> {
    let known = state.api_tokens().get(token);
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
        Some(_) | None => {
            let (name, made) = (known.name.clone(), known.made);
            Ok((TokenId { name, made }, known.access))
        }
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
