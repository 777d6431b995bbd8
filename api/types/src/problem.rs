//! Errors, as RFC 9457 problem documents.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of an error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What failed on what, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable snake_case word for scripts, for example `pool_exhausted`.
    pub reason: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// The kind of failure in a few words.
    pub title: String,
    /// What failed, on which object, with the values at fault.
    pub detail: String,
    /// What to do about it.
    pub next: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
