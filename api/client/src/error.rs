//! What can go wrong between asking and being answered.

use vipd_api_types::Problem;

/// A request that got no good answer. `Display` says what failed on what, [`Error::next`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the server makes no sense.
    #[error("server {given:?}: {why}")]
    BadServer {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// The CA certificates could not be used.
    #[error("CA certificate: {0}")]
    BadCa(String),
    /// No connection.
    #[error("cannot reach vipd at {server}: {cause}")]
    Unreachable {
        /// Which server.
        server: String,
        /// The operating system's or TLS's reason.
        cause: String,
        /// What to do about it.
        next: String,
    },
    /// Connected, but not answered in time.
    #[error("vipd at {server} did not answer within {seconds} s")]
    TimedOut {
        /// Which server.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The daemon said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is not one of vipd's.
    #[error("{server} answered something else than vipd does: {cause}")]
    Strange {
        /// Which server.
        server: String,
        /// What was odd.
        cause: String,
    },
}

impl Error {
    /// The next step for whoever reads the message.
    #[must_use]
    pub fn next(&self) -> String {
        match self {
            Self::BadServer { .. } => "give unix:/path/to/api.sock or https://host:port".into(),
            Self::BadCa(_) => {
                "give the cluster's CA certificate as PEM; every node has it as ca.pem in its data_dir".into()
            }
            Self::Unreachable { next, .. } => next.clone(),
            Self::TimedOut { .. } => {
                "try another node; if all are slow, look at `vipctl status`".into()
            }
            Self::Refused(problem) => problem.next.clone(),
            Self::Strange { .. } => {
                "check that the address is that of a vipd API of the same major version".into()
            }
        }
    }

    /// The stable reason, where the daemon gave one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.reason),
            Self::BadServer { .. }
            | Self::BadCa(_)
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Strange { .. } => None,
        }
    }

    /// Whether the daemon does not let the client in, or not so far.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused(problem) if matches!(problem.status, 401 | 403))
    }

    /// Whether the daemon says that there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == 404)
    }
}
