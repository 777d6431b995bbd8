//! How the backends of a VIP are looked after, and how they are.

mod short;
mod statuses;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Duration;

pub use statuses::Statuses;

/// How the backends are looked after: by the holder, and by the node that would hold the VIP next. A backend that is down
/// gets no new connections; when all of a family are down, all get them, as if they were up. In mode `local` the program of a
/// node counts as its backend, and is asked at the node's own address beside the VIP's; `all_down` must be `withdraw`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// What is asked of them.
    #[serde(default)]
    pub kind: HealthKind,
    /// What to `GET`, with kinds `http` and `https`: `/` unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255)]
    pub path: Option<String>,
    /// The name that is asked for, with kinds `http` and `https`, in the `Host` header; with `https` the certificate must be
    /// for it, by an authority that the nodes' system trusts. The backend's address and port when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 253)]
    pub host: Option<String>,
    /// With kind `https`: any certificate is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// The statuses that are well, with kinds `http` and `https`: `204`, or `200-299,304`; each from 200 to 399 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Statuses>,
    /// What is sent, with kind `udp`: a text, or bytes as `0x0001ff`; an empty datagram when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2050)]
    pub send: Option<String>,
    /// What the answer must contain. With kinds `http` and `https` a text in the first 64 KiB of the body. With `udp` a text or
    /// bytes as `0x0001ff`; empty: any answer is well; absent: so is none, only "unreachable" is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2050)]
    pub expect: Option<String>,
    /// The file that is run, with kind `exec`, in the folder that `[health] exec_dir` of a node's configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub program: Option<String>,
    /// At which port; where the lowest port of the VIP leads when absent: of UDP with kind `udp`, else of TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// From one question to the next: 100ms to 1h.
    #[serde(default = "interval")]
    pub interval: Duration,
    /// How long an answer may take: 10ms to `interval`, at most 10s.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// So many questions unanswered, one after the other, and it is down.
    #[serde(default = "fall")]
    #[schema(minimum = 1, maximum = 10, default = 3)]
    pub fall: u8,
    /// So many answered, one after the other, and it is up again.
    #[serde(default = "rise")]
    #[schema(minimum = 1, maximum = 10, default = 2)]
    pub rise: u8,
    /// What becomes of the VIP when all of its backends are down, as its holder sees them.
    #[serde(default, skip_serializing_if = "AllDown::is_keep")]
    pub all_down: AllDown,
}

/// What is asked of backends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthKind {
    /// To accept a TCP connection.
    #[default]
    Tcp,
    /// To answer a `GET` over HTTP/1.1.
    Http,
    /// The same over TLS.
    Https,
    /// To answer a datagram, or at least not to be unreachable.
    Udp,
    /// Nothing: a program on the node says how they are, by exit code 0.
    Exec,
}

/// What becomes of a VIP when all of its backends are down, as its holder sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllDown {
    /// It stays, and all backends get connections as if none were down.
    #[default]
    Keep,
    /// It goes to a node that has not said the same of them, if there is one that can hold it; else it stays.
    Withdraw,
}

impl AllDown {
    /// Whether it is what there is when nothing is said.
    #[must_use]
    pub fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

fn interval() -> Duration {
    Duration(2000)
}

fn timeout() -> Duration {
    Duration(1000)
}

fn fall() -> u8 {
    3
}

fn rise() -> u8 {
    2
}

impl HealthCheck {
    /// Of this kind, with everything at its default.
    #[must_use]
    pub fn of(kind: HealthKind) -> Self {
        Self {
            kind,
            path: None,
            host: None,
            insecure: false,
            status: None,
            send: None,
            expect: None,
            program: None,
            port: None,
            interval: interval(),
            timeout: timeout(),
            fall: fall(),
            rise: rise(),
            all_down: AllDown::Keep,
        }
    }
}

/// How a backend is, as the node knows that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendStatus {
    /// Its address.
    pub address: String,
    /// Its port, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether it gets new connections.
    pub healthy: bool,
    /// Since when that is so (RFC 3339).
    #[schema(format = DateTime)]
    pub since: String,
    /// What it last answered, or did not.
    pub reason: String,
}
