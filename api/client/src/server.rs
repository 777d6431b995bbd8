//! Where the API is: `unix:/path` or `https://host:port`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use crate::Error;

/// The socket of the node that one is on.
pub const DEFAULT_SOCKET: &str = "unix:/run/vipd/api.sock";

/// Address of a node's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The unix socket of a daemon on this machine; access by file permission.
    Unix(PathBuf),
    /// TLS; access by token.
    Https(Url),
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadServer {
            given: text.to_owned(),
            why: why.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(bad("the path of a unix socket begins with /"))
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        if text.starts_with("http://") {
            return Err(bad(
                "the API speaks TLS only over TCP, so a token is never sent in the clear",
            ));
        }
        if !text.starts_with("https://") {
            return Err(bad("neither unix: nor https://"));
        }
        let url = Url::parse(text).map_err(|cause| bad(&cause.to_string()))?;
        if matches!(url.path(), "" | "/") && url.query().is_none() {
            Ok(Self::Https(url))
        } else {
            Err(bad("only host and port belong here, no path"))
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Server;

    #[test]
    fn servers_are_sockets_or_https() {
        for (given, shown) in [
            ("unix:/run/vipd/api.sock", "unix:/run/vipd/api.sock"),
            ("unix:///run/vipd/api.sock", "unix:/run/vipd/api.sock"),
            ("/run/vipd/api.sock", "unix:/run/vipd/api.sock"),
            ("https://192.0.2.1:7480", "https://192.0.2.1:7480"),
            ("https://[2001:db8::1]:7480/", "https://[2001:db8::1]:7480"),
        ] {
            assert_eq!(given.parse::<Server>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (given, why) in [
            ("http://192.0.2.1:7480", "in the clear"),
            ("192.0.2.1:7480", "neither unix: nor https://"),
            ("unix:api.sock", "begins with /"),
            ("https://192.0.2.1:7480/v1", "no path"),
            ("https://", "empty host"),
        ] {
            let said = given.parse::<Server>().unwrap_err().to_string();
            assert!(said.contains(why) && said.contains(given), "{said}");
        }
    }
}
