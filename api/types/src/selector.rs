//! Selectors: conditions on labels.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Labels;

/// Conditions on labels; all must be met. An empty one selects everything. The label `vipd/name` is the object's
/// own name, and `vipd/namespace` a VIP's namespace, whatever a user sets under those keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Selector {
    /// Labels that must have these very values.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    #[schema(schema_with = crate::meta::labels)]
    pub match_labels: Labels,
    /// Further conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

impl Selector {
    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must be so.
    pub operator: Operator,
    /// For `in` and `not_in`, at least one value; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What must be so with a label. As in Kubernetes, an absent label is `not_in` any list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Its value is one of `values`.
    In,
    /// It is absent, or its value is none of `values`.
    NotIn,
    /// It is there, whatever its value.
    Exists,
    /// It is absent.
    DoesNotExist,
}
