//! The greatest that a body may be in each direction. Whatever is within is still judged by what it means.

use axum::http::StatusCode;
use serde_json::Value;

use crate::problem::Refusal;

/// The most bytes of a body.
pub(crate) const BODY: usize = 1024 * 1024;
/// How deep lists and objects may be within each other.
const DEPTH: usize = 16;
/// The most items of a list. The addresses that one pool or VIP can sensibly name are far fewer.
const ITEMS: usize = 1024;
/// The most members of an object, so also the most labels.
const MEMBERS: usize = 64;
/// The longest key, in bytes: a label's is `prefix/name`, 253 and 63 in Kubernetes.
const KEY: usize = 317;
/// The longest text, in bytes.
const TEXT: usize = 1024;

/// Refuses a body that is too great in some direction, naming the place.
pub(crate) fn check(body: &Value) -> Result<(), Refusal> {
    within(body, "the body", 1)
}

/// Refuses a body whose nesting is so deep that it was not even read.
pub(crate) fn too_deep(place: &str) -> Refusal {
    exceeded(
        "too_deep",
        format!("{place} is nested more than {DEPTH} deep"),
    )
}

fn within(value: &Value, place: &str, depth: usize) -> Result<(), Refusal> {
    if depth > DEPTH && (value.is_array() || value.is_object()) {
        return Err(too_deep(place));
    }
    match value {
        Value::Array(items) if items.len() > ITEMS => {
            let n = items.len();
            let why = format!("{place} has {n} items; {ITEMS} are the most");
            Err(exceeded("too_many", why))
        }
        Value::Object(members) if members.len() > MEMBERS => {
            let n = members.len();
            let why = format!("{place} has {n} members; {MEMBERS} are the most");
            Err(exceeded("too_many", why))
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.try_for_each(|(i, item)| within(item, &format!("{place}[{i}]"), depth + 1))
        }
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            if key.len() > KEY {
                let why = format!(
                    "a key in {place} has {} bytes; {KEY} are the most",
                    key.len()
                );
                return Err(exceeded("too_long", why));
            }
            within(value, &format!("{place}.{key}"), depth + 1)
        }),
        Value::String(text) if text.len() > TEXT => {
            let why = format!("{place} has {} bytes; {TEXT} are the most", text.len());
            Err(exceeded("too_long", why))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn exceeded(reason: &str, why: String) -> Refusal {
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        reason,
        "The body is too great",
        why,
        "send less; several objects can do what one can't",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_direction_has_an_end_that_is_named_with_its_place() {
        let mut deep = json!(1);
        for _ in 0..DEPTH {
            deep = json!([deep]);
        }
        assert!(check(&deep).is_ok());
        let deep = json!({ "x": deep });
        let many: Value = (0..=ITEMS).collect();
        let labels: serde_json::Map<_, _> =
            (0..=MEMBERS).map(|i| (i.to_string(), json!(""))).collect();
        for (body, reason, place) in [
            (deep, "too_deep", "the body.x[0]"),
            (
                json!({ "spec": many }),
                "too_many",
                "the body.spec has 1025",
            ),
            (
                json!({ "labels": labels }),
                "too_many",
                "the body.labels has 65",
            ),
            (
                json!({ "x": "y".repeat(TEXT + 1) }),
                "too_long",
                "the body.x has 1025",
            ),
            (
                json!({ "x".repeat(KEY + 1): 1 }),
                "too_long",
                "a key in the body has 318",
            ),
        ] {
            let refusal = check(&body).unwrap_err().0;
            assert_eq!((refusal.reason.as_str(), refusal.status), (reason, 422));
            assert!(refusal.detail.starts_with(place), "{}", refusal.detail);
        }
    }
}
