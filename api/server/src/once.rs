//! `Idempotency-Key`: a request that is sent again is carried out once, and answered as the first time.
//!
//! What came of it is in the replicated state, so it may be sent to another node, also after the leader has changed. It is
//! remembered for a day, and as one of the last 1000. A generated name comes of the key, so it is the same again.

use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use vipd_core::codec::Wire;
use vipd_core::command::Command;
use vipd_core::once::{Ticket, Ticketed};

use crate::audit;
use crate::problem::Refusal;
use crate::strict;

/// The header.
const HEADER: &str = "idempotency-key";
/// What is answered with a secret.
const SECRET: [&str; 2] = ["/v1/tokens", "/v1/cluster/tokens"];
/// The longest key, in bytes.
const LONGEST: usize = 255;

tokio::task_local! {
    static TICKET: Ticket;
}

/// Gives a request that has a key its ticket, for the time that it is answered.
pub(crate) async fn remember(request: Request, next: Next) -> Response {
    match ticket(request).await {
        Ok((None, request)) => next.run(request).await,
        Ok((Some(ticket), request)) => TICKET.scope(ticket, next.run(request)).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Refuses a key where it would mean nothing: to leave it out silently would be to break it.
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    if request.method() == Method::POST && request.headers().contains_key(HEADER) {
        let secret = SECRET.contains(&request.uri().path());
        let (why, next) = match secret {
            true => (
                "its answer holds a secret, which nobody keeps",
                "send it without; list what there is before you repeat it",
            ),
            false => (
                "it may be repeated as it is: the second time it changes nothing",
                "send it without",
            ),
        };
        let why = format!("this request knows no Idempotency-Key: {why}");
        return Refusal::bad_request("bad_idempotency_key", why, next).into_response();
    }
    next.run(request).await
}

async fn ticket(request: Request) -> Result<(Option<Ticket>, Request), Refusal> {
    let Some(key) = request.headers().get(HEADER) else {
        return Ok((None, request));
    };
    if request.method() != Method::POST {
        // The others may be repeated as they are.
        return Ok((None, request));
    }
    let key = key.to_str().unwrap_or_default().trim().to_owned();
    let graphic = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > LONGEST || !graphic {
        return Err(Refusal::bad_request(
            "bad_idempotency_key",
            format!("Idempotency-Key is not 1 to {LONGEST} characters of ASCII that can be seen"),
            "send a random one, such as a UUID, and the same again with the same request",
        ));
    }
    let who = audit::asker()?;
    let (parts, body) = request.into_parts();
    let whole = strict::whole(Request::from_parts(parts.clone(), body), &()).await?;
    let mut hash = Sha256::new();
    for part in [parts.uri.path(), parts.uri.query().unwrap_or_default()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(&whole);
    // Each user has keys of his own: what another was answered is none of his business.
    let mut own = Sha256::new();
    own.update(Wire::to_bytes(&who));
    own.update([0]);
    own.update(key);
    let ticket = Ticket {
        key: own.finalize().into(),
        request: hash.finalize().into(),
    };
    Ok((Some(ticket), Request::from_parts(parts, Body::from(whole))))
}

/// The command as the request being answered wants it proposed.
pub(crate) fn ticketed(command: Command) -> Command {
    match TICKET.try_with(|ticket| *ticket) {
        Ok(ticket) => Ticketed::of(ticket, command),
        Err(_) => command,
    }
}

/// A number for a generated name: by chance, or by the key.
pub(crate) fn number() -> u32 {
    let of_key = TICKET.try_with(|ticket| {
        let [a, b, c, d, ..] = ticket.key;
        u32::from_be_bytes([a, b, c, d])
    });
    of_key.unwrap_or_else(|_| rand::random())
}
