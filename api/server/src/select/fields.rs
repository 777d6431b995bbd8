//! Field selectors: `spec.pool=web,status.addresses.holder!=n1`, on the objects as they are shown.

use serde_json::Value;

use crate::kind::Kind;
use crate::openapi;
use crate::strict::resolve;

/// Conditions on fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<Condition>);

#[derive(Debug, Clone)]
struct Condition {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Fields {
    pub(super) fn parse<K: Kind>(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let conditions = text.split(',').map(condition::<K>);
        conditions.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A path that is one of these, or below one.
    pub(super) fn untold(&self, of: &[&str]) -> Option<String> {
        let mut paths = self.0.iter().map(|condition| condition.path.join("."));
        let below = |path: &str, of: &str| {
            let rest = path.strip_prefix(of);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        paths.find(|path| of.iter().any(|of| below(path, of)))
    }

    /// Whether an object meets all of them. In lists any item may; a field that is not there is as an empty one.
    pub(super) fn met(&self, object: &Value) -> bool {
        let mut conditions = self.0.iter();
        conditions.all(|condition| {
            let found = has(object, &condition.path, &condition.value);
            found == condition.equal
        })
    }
}

fn condition<K: Kind>(text: &str) -> Result<Condition, String> {
    let (path, equal, value) = if let Some((path, value)) = text.split_once("!=") {
        (path, false, value)
    } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (path, true, value)
    } else {
        return Err(format!(
            "{text:?} is none of FIELD=VALUE, FIELD==VALUE, FIELD!=VALUE"
        ));
    };
    let path = match path.trim() {
        // As Kubernetes calls it, and as people ask for it.
        "metadata.name" => "name",
        "status.holder" => "status.addresses.holder",
        "status.address" => "status.addresses.address",
        other => other,
    };
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    known(&path, K::SCHEMA)?;
    Ok(Condition {
        path,
        value: value.trim().to_owned(),
        equal,
    })
}

/// Refuses a path that no object of that kind can have.
fn known(path: &[String], schema: &str) -> Result<(), String> {
    let whole = path.join(".");
    let mut at = openapi::schema(schema);
    for step in path {
        let here = at.map(through_lists);
        let properties = here.and_then(|here| here.get("properties")?.as_object());
        let Some(properties) = properties else {
            return Err(format!("{whole}: there is nothing below {step:?}"));
        };
        at = properties.get(step);
        if at.is_none() {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            return Err(format!(
                "{whole}: no field {step:?}; there are {}",
                known.join(", ")
            ));
        }
    }
    let leaf = at.map(through_lists);
    match leaf.is_some_and(|leaf| leaf.get("properties").is_some()) {
        true => Err(format!("{whole} is an object: name a field of it")),
        false => Ok(()),
    }
}

fn through_lists(schema: &Value) -> &Value {
    let schema = resolve(schema);
    schema.get("items").map_or(schema, through_lists)
}

fn has(value: &Value, path: &[String], wanted: &str) -> bool {
    match value {
        Value::Array(items) if items.is_empty() => wanted.is_empty(),
        Value::Array(items) => items.iter().any(|item| has(item, path, wanted)),
        Value::Object(members) => match path.split_first() {
            Some((first, rest)) => members
                .get(first)
                .map_or(wanted.is_empty(), |member| has(member, rest, wanted)),
            None => false,
        },
        Value::Null => wanted.is_empty(),
        Value::String(text) => path.is_empty() && text == wanted,
        Value::Bool(is) => path.is_empty() && wanted == if *is { "true" } else { "false" },
        Value::Number(is) => path.is_empty() && is.to_string().as_str() == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vipd_api_types::Vip;

    use super::*;

    #[test]
    fn fields_are_met_through_lists_and_an_absent_one_is_empty() {
        let www = json!({
            "name": "www",
            "spec": { "pool": "web", "ports": [{ "port": 80 }, { "port": 443 }] },
            "status": { "addresses": [{ "holder": "n1" }, { "holder": "n2" }] },
        });
        for (selector, wanted) in [
            ("metadata.name=www", true),
            ("name==www,spec.pool=web", true),
            ("name=www,spec.pool!=web", false),
            ("status.holder=n2", true),
            ("status.holder!=n2", false),
            ("status.holder!=n3", true),
            ("spec.ports.port=443", true),
            ("spec.group=", true),
            ("spec.group!=", false),
            ("spec.pool=", false),
        ] {
            let fields = Fields::parse::<Vip>(selector).unwrap();
            assert_eq!(fields.met(&www), wanted, "{selector}");
        }
    }

    #[test]
    fn a_field_that_no_object_has_is_refused_with_those_that_it_has() {
        let why = |text: &str| Fields::parse::<Vip>(text).unwrap_err();
        assert!(why("spec.colour=x").contains("there are addresses, "));
        assert!(why("spec=x").contains("name a field of it"));
        assert!(why("name.first=x").contains("nothing below"));
        assert!(why("name").contains("FIELD=VALUE"));
    }
}
