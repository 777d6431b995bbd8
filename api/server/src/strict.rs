//! Bodies that users write: JSON, and no field that is not known.
//!
//! The wire types read over unknown fields (an older client must understand a newer daemon), so the fields are
//! held against the OpenAPI document, which is made of the same types. That also yields the known names for
//! the message, whatever the nesting.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

use crate::limits;
use crate::openapi;
use crate::problem::Refusal;

/// The longest until a body is complete.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// The same for one that may be large: 64 MiB at 9 Mbit/s.
const LARGE_WITHIN: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// What an object carries when it was read, and what is ignored when it is written back.
const READ_ONLY: [&str; 3] = ["status", "generation", "revision"];

/// A JSON body held to the schema of `T`.
pub(crate) struct Strict<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + ToSchema> FromRequest<S> for Strict<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        media_type(&request, &[JSON])?;
        parse(&whole(request, state).await?).map(Self)
    }
}

/// The same for a body that is many objects at once: only the path's own limit of bytes holds, and it may take longer to come.
pub(crate) struct Large<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + ToSchema> FromRequest<S> for Large<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        media_type(&request, &[JSON])?;
        let body = whole_within(LARGE_WITHIN, request, state).await?;
        typed(&any_json(&body, &format!("a {}", T::name()))?).map(Self)
    }
}

/// A JSON merge patch (RFC 7396), within the limits; see [`known_fields`].
pub(crate) struct Patch(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Patch {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        media_type(&request, &[MERGE_PATCH, JSON])?;
        let body = json(&whole(request, state).await?, "a merge patch (RFC 7396)")?;
        match body {
            Value::Object(_) => Ok(Self(body)),
            _ => Err(bad(
                "the body is no object".to_owned(),
                "a merge patch (RFC 7396)",
            )),
        }
    }
}

/// Refuses a body that says of itself that it is something else. One that says nothing is taken for what it should be.
fn media_type(request: &Request, taken: &[&str]) -> Result<(), Refusal> {
    let Some(given) = request.headers().get(CONTENT_TYPE) else {
        return Ok(());
    };
    let given = given.to_str().unwrap_or("?");
    let bare = given.split(';').next().unwrap_or_default().trim();
    if taken.iter().any(|taken| bare.eq_ignore_ascii_case(taken)) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The body is of another kind",
        format!("Content-Type {given} is not taken here"),
        format!("send {}", taken.join(" or ")),
    ))
}

/// The whole body, if it comes in time.
pub(crate) async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    whole_within(BODY_WITHIN, request, state).await
}

async fn whole_within<S: Send + Sync>(
    within: Duration,
    request: Request,
    state: &S,
) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(within, Bytes::from_request(request, state)).await;
    let Ok(read) = read else {
        let seconds = within.as_secs();
        return Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow_body",
            "The body did not come in time",
            format!("after {seconds} s it was not complete; nothing was done"),
            "send it in one go",
        ));
    };
    read.map_err(|cause| {
        if cause.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The body is too great",
                "the body has more bytes than this path takes",
                "send less; several objects can do what one can't",
            );
        }
        Refusal::bad_request(
            "bad_body",
            format!("the body could not be read: {cause}"),
            "send at most 1 MiB of JSON",
        )
    })
}

/// JSON within the limits.
fn json(body: &[u8], wanted: &str) -> Result<Value, Refusal> {
    let value = any_json(body, wanted)?;
    limits::check(&value)?;
    Ok(value)
}

fn any_json(body: &[u8], wanted: &str) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|cause| {
        // What serde_json gives up on is far beyond what is taken.
        if cause.to_string().starts_with("recursion limit") {
            return limits::too_deep("the body");
        }
        bad(format!("the body is not JSON: {cause}"), wanted)
    })
}

fn bad(why: String, wanted: &str) -> Refusal {
    let next = format!("send {wanted} as in /v1/openapi.json");
    Refusal::bad_request("bad_body", why, next)
}

fn parse<T: DeserializeOwned + ToSchema>(body: &[u8]) -> Result<T, Refusal> {
    typed(&json(body, &format!("a {}", T::name()))?)
}

/// Refuses a field that a `T` does not have, whatever its value.
pub(crate) fn known_fields<T: ToSchema>(value: &Value) -> Result<(), Refusal> {
    match unknown_field(value, &T::name()) {
        Some(unknown) => Err(Refusal::bad_request(
            "unknown_field",
            unknown.to_string(),
            "correct or remove the field",
        )),
        None => Ok(()),
    }
}

/// A `T` from JSON that has nothing but its fields.
pub(crate) fn typed<T: DeserializeOwned + ToSchema>(value: &Value) -> Result<T, Refusal> {
    let bad = |why| bad(why, &format!("a {}", T::name()));
    let schema = openapi::schema(&T::name());
    if let Some(path) = schema.and_then(|schema| list_for_object(value, schema, "the body")) {
        return Err(bad(format!("{path} is a list, and should be an object")));
    }
    known_fields::<T>(value)?;
    serde_path_to_error::deserialize(value).map_err(|cause| {
        let (path, why) = (cause.path().to_string(), cause.inner().to_string());
        bad(if path == "." {
            why
        } else {
            format!("{path}: {why}")
        })
    })
}

/// A field that the schema does not have.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    path: String,
    known: Vec<String>,
}

impl Unknown {
    fn new<'a>(path: String, known: impl Iterator<Item = &'a String>) -> Self {
        let mut known: Vec<_> = known.cloned().collect();
        known.sort();
        Self { path, known }
    }
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "unknown field {}; known here: {}",
            self.path,
            self.known.join(", ")
        )
    }
}

fn unknown_field(value: &Value, schema: &str) -> Option<Unknown> {
    let schema = openapi::schema(schema)?;
    let Value::Object(fields) = value else {
        return None;
    };
    let own: serde_json::Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| !READ_ONLY.contains(&name.as_str()))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    walk(&Value::Object(own), schema, "")
}

/// Where a list stands for an object. Serde would take its items for the fields in their order, and an empty one for
/// all defaults.
fn list_for_object(value: &Value, schema: &Value, path: &str) -> Option<String> {
    let schema = resolve(schema);
    let properties = schema.get("properties").and_then(Value::as_object);
    match value {
        Value::Array(_) if properties.is_some() => Some(path.to_owned()),
        Value::Array(items) => {
            let schema = schema.get("items")?;
            let mut items = items.iter().enumerate();
            items.find_map(|(i, item)| list_for_object(item, schema, &format!("{path}[{i}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            list_for_object(value, properties?.get(name)?, &format!("{path}.{name}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn walk(value: &Value, schema: &Value, path: &str) -> Option<Unknown> {
    let schema = resolve(schema);
    match value {
        Value::Object(fields) => {
            // A schema without properties is a map: its keys are the user's own.
            let properties = schema.get("properties")?.as_object()?;
            fields.iter().find_map(|(name, value)| {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match properties.get(name) {
                    Some(schema) => walk(value, schema, &path),
                    None => Some(Unknown::new(path, properties.keys())),
                }
            })
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items
                .iter()
                .enumerate()
                .find_map(|(i, item)| walk(item, schema, &format!("{path}[{i}]")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Follows `$ref`, and the one alternative of an optional field that is not null.
pub(crate) fn resolve(schema: &Value) -> &Value {
    if let Some(name) = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.rsplit('/').next())
    {
        return openapi::schema(name).map_or(schema, resolve);
    }
    let alternatives = schema.get("oneOf").and_then(Value::as_array);
    let meant = alternatives.and_then(|all| {
        all.iter()
            .find(|one| one.get("type").is_none_or(|kind| kind != "null"))
    });
    meant.map_or(schema, resolve)
}

#[cfg(test)]
mod tests {
    use vipd_api_types::{PoolWrite, VipWrite};

    use super::parse;

    #[test]
    fn a_list_where_an_object_belongs_is_refused_by_its_place() {
        for (body, place) in [
            ("[]", "the body"),
            (r#"{"spec":[]}"#, "the body.spec"),
            (r#"{"spec":{"blocks":[[]]}}"#, "the body.spec.blocks[0]"),
        ] {
            let refusal = parse::<PoolWrite>(body.as_bytes()).unwrap_err();
            assert!(
                refusal.0.detail.starts_with(&format!("{place} is a list")),
                "{body}: {}",
                refusal.0.detail
            );
        }
    }

    #[test]
    fn an_unknown_field_is_named_with_those_that_are_known() {
        for (body, said) in [
            (
                r#"{"spec":{"blocks":[{"cdir":"10.0.0.0/24"}]}}"#,
                "spec.blocks[0].cdir; known here: cidr, start, stop",
            ),
            (
                r#"{"spec":{"blocks":[]},"colour":1}"#,
                "unknown field colour; known here: labels, name, spec",
            ),
        ] {
            let refusal = parse::<PoolWrite>(body.as_bytes()).unwrap_err().0;
            assert_eq!(refusal.reason, "unknown_field");
            assert!(refusal.detail.contains(said), "{}", refusal.detail);
        }
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let refusal = parse::<VipWrite>(br#"{"spec":{"families":"both"}}"#)
            .unwrap_err()
            .0;
        assert!(
            refusal
                .detail
                .starts_with("spec.families: unknown variant `both`"),
            "{}",
            refusal.detail
        );
        let refusal = parse::<VipWrite>(b"{").unwrap_err().0;
        assert!(
            refusal.detail.starts_with("the body is not JSON"),
            "{}",
            refusal.detail
        );
    }

    #[test]
    fn what_was_read_can_be_written_back_and_labels_are_free() {
        let body = br#"{"name":"a","labels":{"any":"thing"},"generation":1,"revision":2,"status":{"x":1},"spec":{}}"#;
        assert_eq!(parse::<VipWrite>(body).unwrap().labels["any"], "thing");
    }
}
