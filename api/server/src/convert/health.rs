//! How backends are looked after, and how they are.

use std::collections::BTreeMap;

use vipd_api_types as wire;
use vipd_core::health::{AllDown, Check, Http, Question, RATE, Statuses, Tls, Udp};
use vipd_core::name::Name;
use vipd_core::service::Endpoint;
use vipd_core::state::State;
use vipd_core::time::Millis;

use super::node_name;
use crate::clock::rfc3339;
use crate::control::LocalBackend;
use crate::problem::Refusal;

pub(super) fn from_wire(check: &wire::HealthCheck) -> Result<Check, Refusal> {
    only_its_own(check)?;
    let question = match check.kind {
        wire::HealthKind::Tcp => Question::Tcp,
        wire::HealthKind::Http | wire::HealthKind::Https => Question::Http {
            get: Http {
                tls: match (check.kind, check.insecure) {
                    (wire::HealthKind::Https, true) => Tls::Unverified,
                    (wire::HealthKind::Https, false) => Tls::Verified,
                    (_, _) => Tls::Plain,
                },
                path: check.path.clone().unwrap_or_else(|| "/".to_owned()),
                host: check.host.clone().unwrap_or_default(),
                statuses: Statuses {
                    ranges: check.status.clone().unwrap_or_default().0,
                },
                body: check.expect.clone().unwrap_or_default(),
            },
        },
        wire::HealthKind::Udp => Question::Udp {
            datagram: Udp {
                send: bytes("send", check.send.as_deref().unwrap_or_default())?,
                answer: check
                    .expect
                    .as_deref()
                    .map(|text| bytes("expect", text))
                    .transpose()?,
            },
        },
        wire::HealthKind::Exec => Question::Exec {
            program: check.program.clone().unwrap_or_default(),
        },
    };
    Ok(Check {
        question,
        port: given(check.port, "port")?,
        interval: Millis(check.interval.0),
        timeout: Millis(check.timeout.0),
        fall: check.fall,
        rise: check.rise,
        all_down: match check.all_down {
            wire::AllDown::Keep => AllDown::Keep,
            wire::AllDown::Withdraw => AllDown::Withdraw,
        },
    })
}

/// Refuses what means nothing with the kind that it has.
fn only_its_own(check: &wire::HealthCheck) -> Result<(), Refusal> {
    use wire::HealthKind::{Exec, Http, Https, Udp};
    let http: &[wire::HealthKind] = &[Http, Https];
    let keys = [
        ("path", check.path.is_some(), http),
        ("host", check.host.is_some(), http),
        ("status", check.status.is_some(), http),
        ("insecure", check.insecure, &[Https]),
        ("send", check.send.is_some(), &[Udp]),
        ("expect", check.expect.is_some(), &[Http, Https, Udp]),
        ("program", check.program.is_some(), &[Exec]),
    ];
    for (key, there, kinds) in keys {
        if there && !kinds.contains(&check.kind) {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            return Err(Refusal::invalid(format!(
                "health.{key} means nothing with kind {}: it is for {}",
                check.kind,
                kinds.join(", ")
            )));
        }
    }
    Ok(())
}

/// A text, or bytes as `0x0001ff`.
fn bytes(key: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok(text.as_bytes().to_vec());
    };
    hex::decode(digits).map_err(|_| {
        Refusal::invalid(format!(
            "health.{key} is {text:?}: after 0x there are two hexadecimal digits for each byte"
        ))
    })
}

/// As a text where it was one, or might have been.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("0x") => text.to_owned(),
        Ok(_) | Err(_) => format!("0x{}", hex::encode(bytes)),
    }
}

pub(super) fn to_wire(check: &Check) -> wire::HealthCheck {
    let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let asked = match &check.question {
        Question::Tcp => wire::HealthCheck::of(wire::HealthKind::Tcp),
        Question::Http { get } => wire::HealthCheck {
            path: Some(get.path.clone()),
            host: filled(&get.host),
            insecure: get.tls == Tls::Unverified,
            status: Some(wire::Statuses(get.statuses.ranges.clone()))
                .filter(|status| !status.0.is_empty()),
            expect: filled(&get.body),
            ..wire::HealthCheck::of(match get.tls {
                Tls::Plain => wire::HealthKind::Http,
                Tls::Verified | Tls::Unverified => wire::HealthKind::Https,
            })
        },
        Question::Udp { datagram } => wire::HealthCheck {
            send: Some(text(&datagram.send)).filter(|text| !text.is_empty()),
            expect: datagram.answer.as_deref().map(text),
            ..wire::HealthCheck::of(wire::HealthKind::Udp)
        },
        Question::Exec { program } => wire::HealthCheck {
            program: Some(program.clone()),
            ..wire::HealthCheck::of(wire::HealthKind::Exec)
        },
    };
    wire::HealthCheck {
        port: (check.port != 0).then_some(check.port),
        interval: wire::Duration(check.interval.0),
        timeout: wire::Duration(check.timeout.0),
        fall: check.fall,
        rise: check.rise,
        all_down: match check.all_down {
            AllDown::Keep => wire::AllDown::Keep,
            AllDown::Withdraw => wire::AllDown::Withdraw,
        },
        ..asked
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

/// Said of a VIP while nodes have said of it that all of its backends are down.
pub(super) fn all_down(state: &State, vip: &Name) -> Option<wire::Condition> {
    let nodes: Vec<_> = state.blind_to(vip).map(|id| node_name(state, id)).collect();
    (!nodes.is_empty()).then(|| wire::Condition {
        kind: "seen".to_owned(),
        status: false,
        reason: "all_down".to_owned(),
        message: format!(
            "all backends are down as {} sees them: other nodes that can hold it are preferred",
            nodes.join(", ")
        ),
        since: None,
    })
}

/// Said of a VIP whose backends the answering node asks less often than it shall.
pub(super) fn slowed(each: &Millis) -> wire::Condition {
    wire::Condition {
        kind: "in_time".to_owned(),
        status: false,
        reason: "slowed".to_owned(),
        message: format!(
            "its backends are asked each {} only: this node asks {RATE} times a second at most, for all VIPs that it looks \
             after. Next: longer intervals",
            wire::Duration(each.0)
        ),
        since: None,
    }
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
