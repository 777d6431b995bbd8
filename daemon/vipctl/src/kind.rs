//! The kinds of objects that users write, and what is the same for each.

use serde::Serialize;
use vipd_api_types::{Policy, Pool, Vip};
use vipd_client::Writable;

use crate::failure::Failure;
use crate::manifest::{Kind, Manifest};

/// An object that users write.
pub(crate) trait Kept: Writable + Serialize {
    /// What it is.
    const KIND: Kind;

    /// The entry that last changed it.
    fn revision(&self) -> u64;
}

impl Kept for Pool {
    const KIND: Kind = Kind::Pool;
    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Kept for Policy {
    const KIND: Kind = Kind::Policy;
    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Kept for Vip {
    const KIND: Kind = Kind::Vip;
    fn revision(&self) -> u64 {
        self.revision
    }
}

/// Evaluates an expression with the type of this kind.
macro_rules! of_kind {
    ($kind:expr, $type:ident => $what:expr) => {
        match $kind {
            $crate::manifest::Kind::Pool => {
                type $type = vipd_api_types::Pool;
                $what
            }
            $crate::manifest::Kind::Policy => {
                type $type = vipd_api_types::Policy;
                $what
            }
            $crate::manifest::Kind::Vip => {
                type $type = vipd_api_types::Vip;
                $what
            }
        }
    };
}
pub(crate) use of_kind;

/// What a user says about an object, as a document that `apply -f` takes; what only the daemon knows is left out.
pub(crate) fn document<T: Kept>(object: &T) -> Result<String, Failure> {
    /// In this order, whatever a map would make of it.
    #[derive(Serialize)]
    struct Document<'a> {
        kind: &'static str,
        name: &'a serde_json::Value,
        labels: &'a serde_json::Value,
        spec: &'a serde_json::Value,
    }
    let odd = |cause: &dyn std::error::Error| {
        Failure::new(
            format!("cannot show the {}: {cause}", T::KIND.as_str()),
            "report this as a bug of vipctl",
        )
    };
    let object = serde_json::to_value(object).map_err(|cause| odd(&cause))?;
    let document = Document {
        kind: T::KIND.as_str(),
        name: &object["name"],
        labels: &object["labels"],
        spec: &object["spec"],
    };
    serde_yaml_ng::to_string(&document).map_err(|cause| odd(&cause))
}

/// In the order in which they are made: what others name comes first.
pub(crate) fn in_order(mut manifests: Vec<(String, Manifest)>) -> Vec<(String, Manifest)> {
    manifests.sort_by_key(|(_, manifest)| manifest.kind);
    manifests
}
