//! The greatest that a body may be in each direction, and what no text of it may hold. Whatever is within is still judged by what
//! it means.

use axum::http::StatusCode;
use serde_json::Value;

use crate::problem::Refusal;
use crate::select;

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

/// What a health check sends and expects: bytes of protocols, whose lines end with control characters.
const PAYLOADS: [&str; 2] = [".health.send", ".health.expect"];
/// Where labels are.
const LABELS: [&str; 2] = ["/labels", "/spec/labels"];

/// Refuses a body that is too great in some direction, or holds what nobody could show or name, naming the place.
pub(crate) fn check(body: &Value) -> Result<(), Refusal> {
    within(body, "the body", 1)?;
    LABELS.iter().try_for_each(|place| labels(body, place))
}

/// Refuses labels that no selector could name. In a patch, such a one may be taken away.
fn labels(body: &Value, place: &str) -> Result<(), Refusal> {
    let Some(Value::Object(labels)) = body.pointer(place) else {
        return Ok(());
    };
    let kept = labels.iter().filter(|(_, value)| !value.is_null());
    for (key, value) in kept {
        let named = !key.is_empty() && select::is_word(key);
        if !named || !value.as_str().is_none_or(select::is_word) {
            return Err(Refusal::invalid(format!(
                "no selector could name the label {key:?}: {value}; a key has at least one character, and neither it nor the \
                 value has spaces or any of {}",
                select::SIGNS
            )));
        }
    }
    Ok(())
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
            if key.contains(char::is_control) {
                return Err(control(&format!("a key in {place}"), key));
            }
            within(value, &format!("{place}.{key}"), depth + 1)
        }),
        Value::String(text) if text.len() > TEXT => {
            let why = format!("{place} has {} bytes; {TEXT} are the most", text.len());
            Err(exceeded("too_long", why))
        }
        Value::String(text)
            if text.contains(char::is_control)
                && !PAYLOADS.iter().any(|payload| place.ends_with(payload)) =>
        {
            Err(control(place, text))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Whoever reads a table or a log on a terminal would have it carry out what the text says.
fn control(place: &str, text: &str) -> Refusal {
    Refusal::invalid(format!("{place} has a control character: {text:?}"))
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

    #[test]
    fn no_text_holds_what_a_terminal_would_carry_out_but_what_a_health_check_sends() {
        let red = "\u{1b}[31mred\n";
        for bad in [
            json!({ "spec": { "interface": red } }),
            json!({ "labels": { "a": "b\u{7f}" } }),
            json!({ "labels": { "a\u{9b}": "b" } }),
            json!({ "spec": { "addresses": ["10.0.0.1\n"] } }),
        ] {
            let refusal = check(&bad).unwrap_err().0;
            assert_eq!((refusal.reason.as_str(), refusal.status), ("invalid", 422));
            assert!(!refusal.detail.contains(char::is_control), "{refusal:?}");
        }
        let line = json!({ "spec": { "health": { "send": "PING\r\n", "expect": "+PONG\r\n" } } });
        assert!(check(&line).is_ok());
    }

    #[test]
    fn labels_are_such_that_a_selector_can_name_them_and_others_may_be_taken_away() {
        for bad in [
            json!({ "labels": { "": "x" } }),
            json!({ "labels": { "a b": "x" } }),
            json!({ "labels": { "a": "x,y" } }),
            json!({ "spec": { "labels": { "a=b": "" } } }),
        ] {
            let refusal = check(&bad).unwrap_err().0;
            assert_eq!((refusal.reason.as_str(), refusal.status), ("invalid", 422));
        }
        for good in [
            json!({ "labels": { "example.com/app": "Web_1.0", "spare": "" } }),
            json!({ "labels": { "a b": null, "": null } }),
        ] {
            assert!(check(&good).is_ok(), "{good}");
        }
    }
}
