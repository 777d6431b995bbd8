//! Join tokens and API tokens, of which the cluster keeps only SHA-256 hashes.

use alloc::string::String;
use core::fmt;

use crate::codec::wire_enum;
use crate::codec::wire_struct;
use crate::id::Revision;
use crate::name::Name;
use crate::node::Role;
use crate::time::Millis;

/// The SHA-256 of a token's secret.
pub type TokenHash = [u8; 32];

/// Permission to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The role of a node that joins with it.
    pub role: Role,
    /// Refused from then on, by the clock of the entry that joins.
    pub expires: Millis,
    /// How many more nodes may join with it.
    pub uses: u32,
}

wire_struct!(JoinToken {
    role,
    expires,
    uses
});

/// What an API token may do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read everything.
    Read,
    /// Change pools and VIPs too.
    Write,
    /// Change members and tokens too.
    Admin,
}

wire_enum!(Access { 0 => Read, 1 => Write, 2 => Admin });

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl core::str::FromStr for Access {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            other => Err(alloc::format!(
                "access {other:?} is not one of read, write, admin"
            )),
        }
    }
}

/// A bearer token of the REST API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its name, for listing and revoking.
    pub name: Name,
    /// What it may do.
    pub access: Access,
    /// Refused from then on, by the clock of the answering node; `None` lasts.
    pub expires: Option<Millis>,
    /// When it was made.
    pub created: Millis,
    /// The entry that made it: tells it from others that had or will have its name.
    pub made: Revision,
}

wire_struct!(ApiToken {
    name,
    access,
    expires,
    created
} since 4 { made });
