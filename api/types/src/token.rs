//! Tokens for the API over TLS. (Tokens for joining are [`crate::JoinToken`].)

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token allows; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reading everything but tokens.
    Read,
    /// Pools, VIPs, policies, moves, drains.
    Write,
    /// Members, tokens, snapshots.
    Admin,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Unique name.
    pub name: String,
    /// What it allows.
    pub access: Access,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created: String,
    /// Until when it is good (RFC 3339); absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires: Option<String>,
}

/// Body of `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// Unique name.
    pub name: String,
    /// What it shall allow.
    pub access: Access,
    /// For how long it is good; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub ttl_seconds: Option<u64>,
}

/// A new API token. The secret is shown once; the cluster keeps only its hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub access: Access,
    /// The secret, for `Authorization: Bearer`.
    pub token: String,
    /// Until when it is good (RFC 3339); absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires: Option<String>,
}

// Without the secret.
impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("name", &self.name)
            .field("access", &self.access)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
