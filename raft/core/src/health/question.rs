//! What is asked of backends, and which answers are well.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{wire_enum, wire_struct};
use crate::service::Protocol;

/// What a backend must answer to be well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// It accepts a TCP connection.
    Tcp,
    /// It answers over HTTP/1.1.
    Http {
        /// How, and what.
        get: Http,
    },
    /// It answers a datagram, or at least does not say that nobody is there.
    Udp {
        /// Which, and what.
        datagram: Udp,
    },
    /// A program of the node that asks says so, by exit code 0.
    Exec {
        /// The file's name in the folder that the node's configuration names.
        program: String,
    },
}

/// A `GET`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// How the connection is secured.
    pub tls: Tls,
    /// From the first slash on.
    pub path: String,
    /// The name that is asked for, in the `Host` header and with TLS; empty: the backend's address and port.
    pub host: String,
    /// Which answers are well.
    pub statuses: Statuses,
    /// What the first [`Http::READ`] bytes of the body must contain; nothing in particular when empty.
    pub body: String,
}

/// How a `GET` is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Plain,
    /// By a certificate for the host's name, of an authority that the node trusts.
    Verified,
    /// By any certificate.
    Unverified,
}

/// A datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// What is sent.
    pub send: Vec<u8>,
    /// What the answer must contain. With none, silence is well, and only "unreachable" is not.
    pub answer: Option<Vec<u8>>,
}

/// Ranges of HTTP statuses; when there are none, 200 to 399.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    /// From the first to the last of each.
    pub ranges: Vec<(u16, u16)>,
}

wire_enum!(Question {
    0 => Tcp,
    1 => Http { get },
    2 => Udp { datagram },
    3 => Exec { program },
});
wire_enum!(Tls { 0 => Plain, 1 => Verified, 2 => Unverified });
wire_struct!(Http {
    tls,
    path,
    host,
    statuses,
    body
});
wire_struct!(Udp { send, answer });
wire_struct!(Statuses { ranges });

impl Statuses {
    /// The most ranges.
    pub const MOST: usize = 16;

    /// Whether an answer with this status is well.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        match self.ranges.as_slice() {
            [] => (200..400).contains(&status),
            ranges => ranges.iter().any(|(a, b)| (*a..=*b).contains(&status)),
        }
    }

    fn check(&self) -> Result<(), String> {
        let most = Self::MOST;
        if self.ranges.len() > most {
            return Err(format!(
                "wants statuses of {} ranges: at most {most} can be",
                self.ranges.len()
            ));
        }
        let good = |(a, b): &(u16, u16)| (100..=599).contains(a) && (*a..=599).contains(b);
        match self.ranges.iter().find(|range| !good(range)) {
            Some((a, b)) => Err(format!(
                "wants status {a}-{b} of its backends: ranges within 100 to 599 can be"
            )),
            None => Ok(()),
        }
    }
}

impl Http {
    /// The longest path, in bytes.
    pub const MAX_PATH: usize = 255;
    /// The longest name that is asked for, in bytes.
    pub const MAX_HOST: usize = 253;
    /// The longest text that is looked for in a body, in bytes.
    pub const MAX_BODY: usize = 255;
    /// So much of a body is read.
    pub const READ: usize = 64 * 1024;

    fn check(&self) -> Result<(), String> {
        // RFC 3986, 3.3 and 3.4.
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&c);
        let Self { path, host, .. } = self;
        if !path.starts_with('/') || path.len() > Self::MAX_PATH || !path.bytes().all(plain) {
            return Err(format!(
                "asks its backends for {path:?}: a path begins with / and has up to {} of the characters of URLs (others as %20)",
                Self::MAX_PATH
            ));
        }
        let named = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
        if host.len() > Self::MAX_HOST || !host.bytes().all(named) {
            return Err(format!(
                "asks its backends for host {host:?}: a name has up to {} letters, digits, dots and hyphens, and no port",
                Self::MAX_HOST
            ));
        }
        if self.tls == Tls::Verified && host.is_empty() {
            return Err(
                "asks its backends by https without a host, so that nobody knows for whom their certificates should be: \
                 name health.host, or take any certificate with health.insecure"
                    .into(),
            );
        }
        if self.body.len() > Self::MAX_BODY {
            return Err(format!(
                "looks for {} bytes in the body: at most {} can be",
                self.body.len(),
                Self::MAX_BODY
            ));
        }
        self.statuses.check()
    }
}

impl Udp {
    /// The most that is sent, and looked for, in bytes: what passes every link in one piece.
    pub const MOST: usize = 1024;

    fn check(&self) -> Result<(), String> {
        let answer = self.answer.as_ref().map_or(0, Vec::len);
        let longest = self.send.len().max(answer);
        if longest > Self::MOST {
            let most = Self::MOST;
            return Err(format!(
                "sends, or looks for, {longest} bytes by UDP: at most {most} can be"
            ));
        }
        Ok(())
    }
}

impl Question {
    /// The longest name of a program, in bytes.
    pub const MAX_PROGRAM: usize = 63;

    /// The protocol that it is asked in: of which port of the VIP.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp | Self::Http { .. } | Self::Exec { .. } => Protocol::Tcp,
            Self::Udp { .. } => Protocol::Udp,
        }
    }

    /// Refuses what can't be asked, to be said of the VIP: "asks its backends …".
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Tcp => Ok(()),
            Self::Http { get } => get.check(),
            Self::Udp { datagram } => datagram.check(),
            Self::Exec { program } => {
                // It is a name within a folder, and can't lead out of it.
                let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
                let good = !program.is_empty()
                    && program.len() <= Self::MAX_PROGRAM
                    && !program.starts_with(['.', '-'])
                    && program.bytes().all(plain);
                match good {
                    true => Ok(()),
                    false => Err(format!(
                        "runs {program:?} to look after its backends: name a file in the nodes' health.exec_dir, of up to \
                         {} letters, digits, '-', '_' and '.', without a path",
                        Self::MAX_PROGRAM
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Wire as _;
    use alloc::vec;

    fn http(path: &str) -> Http {
        Http {
            path: path.into(),
            ..Http::default()
        }
    }

    fn of(ranges: &[(u16, u16)]) -> Statuses {
        Statuses {
            ranges: ranges.to_vec(),
        }
    }

    fn asked(get: Http) -> Question {
        Question::Http { get }
    }

    #[test]
    fn statuses_are_ranges_and_200_to_399_when_none_is_named() {
        let none = Statuses::default();
        let some = of(&[(204, 204), (300, 302)]);
        let well = |of: &Statuses| (100..600).filter(|n| of.contains(*n)).collect::<Vec<u16>>();
        assert_eq!(well(&none), (200..400).collect::<Vec<_>>());
        assert_eq!(well(&some), [204, 300, 301, 302]);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_reason() {
        let long = "x".repeat(2000);
        let status = |a, b| Http {
            statuses: of(&[(a, b)]),
            ..http("/")
        };
        let exec = |program: &str| Question::Exec {
            program: program.into(),
        };
        let bad = [
            (asked(http("a")), "begins with /"),
            (asked(http("/ä")), "characters of URLs"),
            (asked(http("/a b")), "characters of URLs"),
            (asked(http("/a#b")), "characters of URLs"),
            (asked(http(&format!("/{long}"))), "255"),
            (asked(status(99, 200)), "status 99-200"),
            (asked(status(300, 200)), "status 300-200"),
            (
                asked(Http {
                    statuses: of(&[(200, 200); 17]),
                    ..http("/")
                }),
                "17 ranges",
            ),
            (
                asked(Http {
                    tls: Tls::Verified,
                    ..http("/")
                }),
                "health.insecure",
            ),
            (
                asked(Http {
                    host: "a:80".into(),
                    ..http("/")
                }),
                "no port",
            ),
            (
                asked(Http {
                    body: long.clone(),
                    ..http("/")
                }),
                "2000 bytes in the body",
            ),
            (
                Question::Udp {
                    datagram: Udp {
                        send: long.clone().into_bytes(),
                        answer: None,
                    },
                },
                "2000 bytes by UDP",
            ),
            (exec(""), "exec_dir"),
            (exec("../sh"), "without a path"),
            (exec("-c"), "without a path"),
            (exec("a/b"), "without a path"),
            (exec(&long), "63"),
        ];
        for (question, why) in bad {
            let refused = question.check().unwrap_err();
            assert!(refused.contains(why), "{refused:?} lacks {why:?}");
        }
    }

    #[test]
    fn a_question_is_read_back_as_it_was_written() {
        let https = Http {
            tls: Tls::Verified,
            host: "www.example".into(),
            statuses: of(&[(200, 299)]),
            body: "ready".into(),
            ..http("/a?b=c")
        };
        let all = [
            Question::Tcp,
            asked(https),
            Question::Udp {
                datagram: Udp {
                    send: vec![0, 1],
                    answer: Some(Vec::new()),
                },
            },
            Question::Exec {
                program: "look.sh".into(),
            },
        ];
        for question in all {
            assert_eq!(question.check(), Ok(()));
            let bytes = question.to_bytes();
            assert_eq!(Question::from_bytes(&bytes), Ok(question));
        }
    }
}
