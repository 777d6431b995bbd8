//! Errors at the edge: each becomes a problem document here and nowhere else.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use vipd_api_types::{PROBLEM_JSON, Problem};
use vipd_core::rejection::Rejection;

use crate::control::ControlError;

/// A [`Problem`] as an answer.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub(crate) Box<Problem>);

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        reason: &str,
        title: &str,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self(Box::new(Problem {
            reason: reason.to_owned(),
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            next: next.into(),
        }))
    }

    /// The request makes no sense.
    pub(crate) fn bad_request(
        reason: &str,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            reason,
            "The request is malformed",
            detail,
            next,
        )
    }

    /// The request is well-formed, but a value in it is not.
    pub(crate) fn invalid(detail: impl ToString) -> Self {
        Rejection::Invalid {
            why: detail.to_string(),
        }
        .into()
    }

    /// A task of this program did not come to its end.
    pub(crate) fn broken(cause: &impl ToString) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            "The node could not do it",
            format!("the answer was not finished: {}", cause.to_string()),
            "please report it with the daemon's log",
        )
    }

    /// There is no such object.
    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Rejection::NotFound {
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
        .into()
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let (status, title) = match &rejection {
            Rejection::NotFound { .. } => (StatusCode::NOT_FOUND, "There is no such object"),
            Rejection::Exists { .. } | Rejection::AlreadyBootstrapped => {
                (StatusCode::CONFLICT, "It exists already")
            }
            Rejection::Stale { .. } => (
                StatusCode::PRECONDITION_FAILED,
                "Somebody else has changed it",
            ),
            Rejection::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The key stands for another request",
            ),
            Rejection::Invalid { .. }
            | Rejection::NotInAnyPool { .. }
            | Rejection::Reserved { .. } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "A value is not acceptable",
            ),
            Rejection::Overlap { .. }
            | Rejection::AlreadyAllocated { .. }
            | Rejection::Incompatible { .. }
            | Rejection::Cooling { .. }
            | Rejection::HostAddress { .. } => (StatusCode::CONFLICT, "The addresses are taken"),
            Rejection::StateFull { .. } => (StatusCode::CONFLICT, "The cluster is full"),
            Rejection::InUse { .. } | Rejection::NodeBusy { .. } => {
                (StatusCode::CONFLICT, "It is in use")
            }
            Rejection::PoolDisabled { .. }
            | Rejection::PoolConflicting { .. }
            | Rejection::PoolSelectorMismatch { .. }
            | Rejection::NoPool { .. }
            | Rejection::OutOfIps { .. } => (StatusCode::CONFLICT, "No address can be given"),
            Rejection::CannotHold { .. } => (StatusCode::CONFLICT, "The node cannot hold it"),
            Rejection::OnItsWay { .. } => (StatusCode::CONFLICT, "The address is moving"),
            Rejection::TokenUnknown | Rejection::TokenExpired | Rejection::TokenUsedUp => {
                (StatusCode::FORBIDDEN, "The join token is not good")
            }
            Rejection::Revoked { .. } => (StatusCode::UNAUTHORIZED, "A good token is needed"),
            Rejection::StaleLease { .. } | Rejection::VotersChanged { .. } => {
                (StatusCode::CONFLICT, "The lease is over")
            }
        };
        Self::new(
            status,
            rejection.reason(),
            title,
            rejection.to_string(),
            rejection.next_step(),
        )
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let detail = error.to_string();
        match error {
            ControlError::Rejected(rejection) => rejection.into(),
            ControlError::NoLeader => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_quorum",
                "The cluster cannot decide",
                detail,
                "bring voters back; what this node knows is still readable: vipctl status, vipctl --local vip list",
            ),
            ControlError::TimedOut(_) => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timed_out",
                "The cluster did not decide in time",
                detail,
                "read it again before repeating; see vipctl status for the quorum",
            ),
            ControlError::Stopping => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "The node is shutting down",
                detail,
                "ask another node",
            ),
            ControlError::Refused { next, .. } => Self::new(
                StatusCode::CONFLICT,
                "refused",
                "It cannot be done as things are",
                detail,
                next,
            ),
            ControlError::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "object_too_large",
                "The object is too large",
                detail,
                "split it into several objects",
            ),
            ControlError::Failed { next, .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed",
                "The node could not do it",
                detail,
                next,
            ),
        }
    }
}

/// The reason of an answer that was refused, for the metrics.
#[derive(Debug, Clone)]
pub(crate) struct Reason(pub(crate) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let second = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, second);
        }
        response.extensions_mut().insert(Reason(self.0.reason));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_finds_no_room_is_told_apart_from_what_failed() {
        let (size, limit) = (300_000, 262_144);
        let large = Refusal::from(ControlError::TooLarge { size, limit }).0;
        assert_eq!((large.status, &*large.reason), (413, "object_too_large"));
        let (size, most) = (10, 9);
        let full = Refusal::from(Rejection::StateFull { size, most }).0;
        assert_eq!((full.status, &*full.reason), (409, "state_full"));
        assert!(full.next.starts_with("delete VIPs"), "{}", full.next);
    }
}
