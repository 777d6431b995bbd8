//! How backends are looked after, and how they are.

use std::collections::BTreeMap;

use vipd_api_types as wire;
use vipd_core::health::{Check, Question};
use vipd_core::service::Endpoint;
use vipd_core::time::Millis;

use crate::clock::rfc3339;
use crate::control::LocalBackend;
use crate::problem::Refusal;

pub(super) fn from_wire(check: &wire::HealthCheck) -> Result<Check, Refusal> {
    let question = match check.kind {
        wire::HealthKind::Tcp => match (&check.path, check.status) {
            (None, None) => Question::Tcp,
            (Some(_), _) | (_, Some(_)) => {
                return Err(Refusal::invalid(
                    "health has a path or a status, but is of kind tcp: choose kind http",
                ));
            }
        },
        wire::HealthKind::Http => Question::Http {
            path: check.path.clone().unwrap_or_else(|| "/".to_owned()),
            status: given(check.status, "status")?,
        },
    };
    Ok(Check {
        question,
        port: given(check.port, "port")?,
        interval: Millis(check.interval.0),
        timeout: Millis(check.timeout.0),
        fall: check.fall,
        rise: check.rise,
    })
}

pub(super) fn to_wire(check: &Check) -> wire::HealthCheck {
    let (kind, path, status) = match &check.question {
        Question::Tcp => (wire::HealthKind::Tcp, None, 0),
        Question::Http { path, status } => (wire::HealthKind::Http, Some(path.clone()), *status),
    };
    wire::HealthCheck {
        kind,
        path,
        status: (status != 0).then_some(status),
        port: (check.port != 0).then_some(check.port),
        interval: wire::Duration(check.interval.0),
        timeout: wire::Duration(check.timeout.0),
        fall: check.fall,
        rise: check.rise,
    }
}

pub(super) fn backend(at: &Endpoint, seen: &LocalBackend) -> wire::BackendStatus {
    wire::BackendStatus {
        address: at.address.to_string(),
        port: (at.port != 0).then_some(at.port),
        healthy: seen.healthy,
        since: rfc3339(seen.since),
        reason: seen.reason.clone(),
    }
}

/// Said of a VIP while some of its backends are down.
pub(super) fn condition(backends: &BTreeMap<Endpoint, LocalBackend>) -> Option<wire::Condition> {
    let down: Vec<_> = backends.iter().filter(|(_, seen)| !seen.healthy).collect();
    let (first, seen) = down.first()?;
    let more = match down.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Some(wire::Condition {
        kind: "healthy".to_owned(),
        status: false,
        reason: "backend_down".to_owned(),
        message: format!(
            "{} of {} backends down: {first}{more} ({})",
            down.len(),
            backends.len(),
            seen.reason
        ),
        since: Some(rfc3339(down.iter().map(|(_, seen)| seen.since).max()?)),
    })
}

/// The core says 0 where the wire leaves a number out.
fn given(number: Option<u16>, what: &str) -> Result<u16, Refusal> {
    match number {
        Some(0) => Err(Refusal::invalid(format!(
            "health.{what} is 0: leave it out for the usual one"
        ))),
        Some(number) => Ok(number),
        None => Ok(0),
    }
}
