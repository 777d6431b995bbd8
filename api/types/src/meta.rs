//! What every object shares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

/// Free-form key and value pairs, which selectors match on.
pub type Labels = BTreeMap<String, String>;

/// The schema of [`Labels`]; a derived one would be called by the name of its Rust collection.
pub(crate) fn labels() -> Object {
    ObjectBuilder::new()
        .description(Some(
            "Free-form key and value pairs, which selectors match on.",
        ))
        .additional_properties(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// The same in a merge patch, where `null` takes a label away.
pub(crate) fn patched_labels() -> Object {
    let types = SchemaType::from_iter([Type::String, Type::Null]);
    ObjectBuilder::new()
        .description(Some("Labels to set, or null to take one back."))
        .additional_properties(Some(ObjectBuilder::new().schema_type(types)))
        .build()
}

/// One thing worth knowing about an object, with a machine-readable `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// What is judged, for example `satisfied`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is so.
    pub status: bool,
    /// Stable snake_case word for scripts.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Since when (RFC 3339), where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
}

/// A list of objects as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// Log index up to which the answering node had applied when it began to answer; no object is older.
    pub revision: u64,
    /// The objects, by name.
    pub items: Vec<T>,
}

/// A list of objects, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Log index up to which the answering node had applied when it began with the first part; no object is older. A watch
    /// from here on misses nothing, however long the list took to read.
    pub revision: u64,
    /// The objects, by name.
    pub items: Vec<T>,
    /// There is more: ask again with this as `continue`.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Answer of `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Whether the node is fit for what was asked.
    pub ok: bool,
    /// What is wrong, one line each; empty when all is well.
    pub problems: Vec<String>,
}
