//! The short form of a health check on the command line: `tcp`, `http`, `http:/healthz`, `https:/healthz`, `udp`, `exec:PROGRAM`, and
//! behind it what is not so by itself: `,interval=5s,timeout=500ms,fall=2,rise=1,port=8081,status=204`.

use std::fmt;
use std::str::FromStr;

use super::{AllDown, HealthCheck, HealthKind, Statuses};

impl HealthKind {
    const ALL: [(&'static str, Self); 5] = [
        ("tcp", Self::Tcp),
        ("http", Self::Http),
        ("https", Self::Https),
        ("udp", Self::Udp),
        ("exec", Self::Exec),
    ];

    fn of(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(of, _)| *of == name).map(|(_, kind)| *kind)
    }
}

impl fmt::Display for HealthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
            Self::Exec => "exec",
        })
    }
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(what) = self.path.as_ref().or(self.program.as_ref()) {
            write!(f, ":{what}")?;
        }
        let usual = Self::of(self.kind);
        let texts = [
            ("host", &self.host),
            ("send", &self.send),
            ("expect", &self.expect),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                write!(f, ",{key}={text}")?;
            }
        }
        // Commas part the keys here.
        for range in self.status.iter().flat_map(|of| &of.0) {
            write!(f, ",status={}", Statuses(vec![*range]))?;
        }
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
        ];
        for (key, number, usual) in numbers {
            if let Some(number) = number.filter(|number| *number != usual) {
                write!(f, ",{key}={number}")?;
            }
        }
        if self.insecure {
            f.write_str(",insecure")?;
        }
        match self.all_down {
            AllDown::Keep => Ok(()),
            AllDown::Withdraw => f.write_str(",withdraw"),
        }
    }
}

impl FromStr for HealthCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| {
            format!(
                "{what:?} in {text:?}: a health check is tcp, http, http:/PATH, https:/PATH, udp or exec:PROGRAM, and may have \
                 ,interval=2s ,timeout=1s ,fall=3 ,rise=2 ,port=PORT ,host=NAME ,status=200-299 ,send=TEXT ,expect=TEXT ,insecure and \
                 ,withdraw behind it"
            )
        };
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (kind, what) = match first.split_once(':') {
            Some((kind, what)) => (kind, Some(what.to_owned())),
            None => (first, None),
        };
        let mut check = Self::of(HealthKind::of(kind).ok_or_else(|| bad(first))?);
        match check.kind {
            HealthKind::Http | HealthKind::Https => check.path = what,
            HealthKind::Exec => check.program = what,
            HealthKind::Tcp | HealthKind::Udp if what.is_some() => return Err(bad(first)),
            HealthKind::Tcp | HealthKind::Udp => {}
        }
        for part in parts {
            match part {
                "insecure" => check.insecure = true,
                "withdraw" => check.all_down = AllDown::Withdraw,
                _ => check.set(part).ok_or_else(|| bad(part))?,
            }
        }
        Ok(check)
    }
}

impl HealthCheck {
    /// Sets `key=value`; `None` if it is none.
    fn set(&mut self, part: &str) -> Option<()> {
        let (key, value) = part.split_once('=')?;
        match key {
            "interval" => self.interval = value.parse().ok()?,
            "timeout" => self.timeout = value.parse().ok()?,
            "fall" => self.fall = value.parse().ok()?,
            "rise" => self.rise = value.parse().ok()?,
            "port" => self.port = Some(value.parse().ok()?),
            "host" => self.host = Some(value.to_owned()),
            "send" => self.send = Some(value.to_owned()),
            "expect" => self.expect = Some(value.to_owned()),
            "status" => {
                let Statuses(more) = value.parse().ok()?;
                self.status.get_or_insert_default().0.extend(more);
            }
            _ => return None,
        }
        Some(())
    }
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
            "https:/,host=www.example,expect=ready,status=200-299,status=304,withdraw",
            "https,insecure",
            "udp,send=0x00ff,expect=,port=53",
            "exec:look.sh,timeout=5s",
        ] {
            let check: HealthCheck = text.parse().expect(text);
            assert_eq!(check.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_check_is_refused_with_what_is_one() {
        for text in [
            "",
            "icmp",
            "tcp:/",
            "udp:53",
            "http,fall",
            "http,fall=x",
            "tcp,often=1",
            "tcp,fall=300",
            "http,status=ok",
        ] {
            let told = text.parse::<HealthCheck>().expect_err(text);
            assert!(told.contains("https:/PATH"), "{text:?}: {told}");
        }
    }
}
