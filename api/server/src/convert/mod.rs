//! Between the wire's types and the core's, both ways. What users write is parsed here, never validated twice.

pub(crate) mod backup;
pub(crate) mod cluster;
pub(crate) mod event;
mod health;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod selector;
pub(crate) mod service;
pub(crate) mod token;
pub(crate) mod vip;

use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::state::State;

use crate::problem::Refusal;

/// Parses the name of an object to be made.
pub(crate) fn new_name(text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(Refusal::invalid)
}

/// Parses the name of an object that should exist. What cannot be a name is not found.
pub(crate) fn known_name(kind: &str, text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|_| Refusal::not_found(kind, text))
}

/// A node's name, or its number if it is gone.
pub(crate) fn node_name(state: &State, id: NodeId) -> String {
    state
        .node(id)
        .map_or_else(|| format!("#{id}"), |node| node.name.to_string())
}

/// Which of the names in path and body holds: in a PUT the body may leave it out.
pub(crate) fn same_name(path: &str, body: Option<&str>) -> Result<Name, Refusal> {
    match body {
        Some(body) if body != path => Err(Refusal::bad_request(
            "name_mismatch",
            format!("the path says {path}, the body says {body}"),
            "leave the name out of the body, or make them equal",
        )),
        Some(_) | None => new_name(path),
    }
}

/// The name to make: the one given, or a generated one.
pub(crate) fn name_or_generated(given: Option<&str>, kind: &str) -> Result<Name, Refusal> {
    match given {
        Some(given) => new_name(given),
        None => new_name(&format!("{kind}-{:08x}", crate::once::number())),
    }
}
