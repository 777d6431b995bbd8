//! How the backends of a VIP are looked after, and how they are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Duration;

/// How the backends are looked after: by the holder, and by the node that would hold the VIP next. A backend that is down
/// gets no new connections; when all of a family are down, all get them, as if they were up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// What is asked of them.
    #[serde(default)]
    pub kind: HealthKind,
    /// What to `GET`, with kind `http`: `/` unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255)]
    pub path: Option<String>,
    /// The only status that is well, with kind `http`; each from 200 to 399 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 599)]
    pub status: Option<u16>,
    /// At which port; where the lowest TCP port of the VIP leads when absent.
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

/// The short form of the command line: `tcp`, `http`, `http:/healthz`, and behind it what is not so by itself:
/// `,interval=5s,timeout=500ms,fall=2,rise=1,port=8081,status=204`.
impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            HealthKind::Tcp => "tcp",
            HealthKind::Http => "http",
        })?;
        if let Some(path) = &self.path {
            write!(f, ":{path}")?;
        }
        let usual = Self::of(self.kind);
        if self.interval != usual.interval {
            write!(f, ",interval={}", self.interval)?;
        }
        if self.timeout != usual.timeout {
            write!(f, ",timeout={}", self.timeout)?;
        }
        let numbers = [
            ("fall", Some(self.fall.into()), usual.fall.into()),
            ("rise", Some(self.rise.into()), usual.rise.into()),
            ("port", self.port, 0),
            ("status", self.status, 0),
        ];
        for (key, number, usual) in numbers {
            if let Some(number) = number.filter(|number| *number != usual) {
                write!(f, ",{key}={number}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for HealthCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| {
            format!(
                "{what:?} in {text:?}: a health check is tcp, http or http:/PATH, and may have ,interval=2s ,timeout=1s ,fall=3 \
                 ,rise=2 ,port=PORT and ,status=STATUS behind it"
            )
        };
        let mut parts = text.split(',');
        let what = parts.next().unwrap_or_default();
        let mut check = match what.split_once(':') {
            None if what == "tcp" => Self::of(HealthKind::Tcp),
            None if what == "http" => Self::of(HealthKind::Http),
            Some(("http", path)) => Self {
                path: Some(path.to_owned()),
                ..Self::of(HealthKind::Http)
            },
            None | Some(_) => return Err(bad(what)),
        };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| bad(part))?;
            let number = || value.parse::<u16>().map_err(|_| bad(part));
            let small = || value.parse::<u8>().map_err(|_| bad(part));
            match key {
                "interval" => check.interval = value.parse().map_err(|_| bad(part))?,
                "timeout" => check.timeout = value.parse().map_err(|_| bad(part))?,
                "fall" => check.fall = small()?,
                "rise" => check.rise = small()?,
                "port" => check.port = Some(number()?),
                "status" => check.status = Some(number()?),
                _ => return Err(bad(part)),
            }
        }
        Ok(check)
    }
}

impl HealthCheck {
    fn of(kind: HealthKind) -> Self {
        Self {
            kind,
            path: None,
            status: None,
            port: None,
            interval: interval(),
            timeout: timeout(),
            fall: fall(),
            rise: rise(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_read_as_it_is_written() {
        for text in [
            "tcp",
            "http",
            "http:/healthz",
            "tcp,interval=5s,timeout=500ms,fall=2,rise=1,port=8081",
            "http:/a?b=c:d,status=204",
        ] {
            let check: HealthCheck = text.parse().expect(text);
            assert_eq!(check.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_check_is_refused_with_what_is_one() {
        for text in [
            "",
            "udp",
            "tcp:/",
            "http,fall",
            "http,fall=x",
            "tcp,often=1",
            "tcp,fall=300",
        ] {
            let told = text.parse::<HealthCheck>().expect_err(text);
            assert!(told.contains("http:/PATH"), "{text:?}: {told}");
        }
    }
}
