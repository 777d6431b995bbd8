//! Who asked for a command: data of its log entry, so that every node's events tell the same, whoever leads.

use core::fmt;

use crate::codec::{wire_enum, wire_struct};
use crate::id::{NodeId, Revision};
use crate::name::Name;

/// A user of the REST API, as the node that he asked knows him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A process on the node's host, through the unix socket: its user, as the kernel tells it. A number, because looking
    /// up the name may ask a directory on the network, and means nothing on other hosts.
    Local {
        /// The effective user id.
        uid: u32,
    },
    /// Whoever has this token, through TLS.
    Token {
        /// Which.
        token: TokenId,
    },
}

wire_enum!(Who { 0 => Local { uid }, 1 => Token { token } });

/// An API token, told from earlier and later ones of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenId {
    /// Its name.
    pub name: Name,
    /// The entry that made it, see [`crate::token::ApiToken::made`]; 0 where an older vipd did not say.
    pub made: Revision,
}

wire_struct!(TokenId { name } since 4 { made });

/// As `uid/1000` and `token/ci`.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "uid/{uid}"),
            Self::Token { token } => write!(f, "token/{}", token.name),
        }
    }
}

/// Who asked, and which node vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The node that was asked. The leader takes it from the certificate of whoever forwarded the command.
    pub node: NodeId,
    /// Who asked it.
    pub who: Who,
}

wire_struct!(Asker { node, who });
