//! What a watch tells.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// One message of a watch: `?watch=1` on a collection, as server-sent events whose `event` is the `type` here.
///
/// Changes that came close together may be told as one: what counts is how the object is now. Where one entry changed
/// several objects, only the last of them carries an `id`, so that a watch which is taken up again misses none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Watched<T> {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: WatchedKind,
    /// Log index of the entry that did it; a watch can be taken up again from here if the message carries an `id`.
    pub revision: u64,
    /// Name of the object; absent in a bookmark and in an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The object as it is now, without what is worked out only when one asks for it (`runner_up`); absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<T>,
    /// Why the watch ends, in an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What happened to a watched object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchedKind {
    /// It was made, or meets the selectors now.
    Added,
    /// It was changed.
    Modified,
    /// It is gone, or no longer meets the selectors. May be told of an object that never was, after a watch was taken up
    /// again.
    Deleted,
    /// Nothing: so far everything has been told.
    Bookmark,
    /// The watch ends; the `problem` says why and what to do.
    Error,
}

impl WatchedKind {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Bookmark => "bookmark",
            Self::Error => "error",
        }
    }
}
