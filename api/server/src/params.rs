//! Query parameters and conditional headers.

use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderMap;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};
use vipd_core::command::Expect;
use vipd_core::id::Revision;
use vipd_core::pool::Care;

use crate::erased::Daemon;
use crate::problem::Refusal;

/// Query parameters; one that is not known is refused rather than ignored.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(cause) => Err(Refusal::bad_request(
                "bad_query",
                format!("query of {}: {}", parts.uri.path(), cause.body_text()),
                "the parameters of each path are in /v1/openapi.json",
            )),
        }
    }
}

/// What stands in the path in place of `{name}`.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(names)) => Ok(Self(names)),
            Err(cause) => Err(Refusal::bad_request(
                "bad_path",
                format!("{}: {}", parts.uri.path(), cause.body_text()),
                "names are ASCII; the paths are in /v1/openapi.json",
            )),
        }
    }
}

/// How current an answer must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Consistency {
    /// As current as the last committed write; needs a quorum.
    #[default]
    Linearizable,
    /// What the asked node knows.
    Local,
}

/// Parameters of a read.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadParams {
    /// How current the answer must be.
    #[serde(default)]
    #[param(inline)]
    pub(crate) consistency: Consistency,
}

impl ReadParams {
    /// Waits until the node's state is as current as asked.
    pub(crate) async fn ready(self, daemon: &Daemon) -> Result<(), Refusal> {
        match self.consistency {
            Consistency::Linearizable => daemon.linearize().await,
            Consistency::Local => Ok(()),
        }
    }
}

/// Which objects of a collection, and how they are told.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// How current the answer must be.
    #[serde(default)]
    #[param(inline)]
    pub(crate) consistency: Consistency,
    /// Only objects with these labels, as Kubernetes writes it: `app=web,tier!=db,rack in (a,b),!old`. The label `vipd/name` is
    /// an object's name.
    #[serde(rename = "labelSelector")]
    pub(crate) label_selector: Option<String>,
    /// Only objects with these fields: `spec.pool=web,status.holder!=n1`. In a list any item may have the value.
    #[serde(rename = "fieldSelector")]
    pub(crate) field_selector: Option<String>,
    /// At most so many objects, 10000 when it is left out; when there are more, the answer has a `continue`.
    #[param(minimum = 1, maximum = 10000, default = 10000)]
    pub(crate) limit: Option<usize>,
    /// Go on after the part that answered with this.
    #[serde(rename = "continue")]
    pub(crate) next: Option<String>,
    /// Tell what changes from now on, or after `revision`, as server-sent events (`text/event-stream`, one `Watched` each).
    #[serde(default, deserialize_with = "flag")]
    pub(crate) watch: bool,
    /// For a watch: the revision of a list, or of the last event. A `Last-Event-ID` header wins.
    pub(crate) revision: Option<u64>,
}

/// The most objects of one part of a list, and how many there are when it is not said: ten megabytes.
const LIMIT: usize = 10_000;

impl ListParams {
    /// How many objects to answer with, in a list that is no watch.
    pub(crate) fn page(&self) -> Result<usize, Refusal> {
        if self.revision.is_some() {
            return Err(bad_query("revision goes with watch=1 only"));
        }
        match self.limit {
            Some(limit) if !(1..=LIMIT).contains(&limit) => Err(bad_query(&format!(
                "limit {limit} is not within 1 to {LIMIT}"
            ))),
            limit => Ok(limit.unwrap_or(LIMIT)),
        }
    }

    /// Refuses what a watch knows nothing of.
    pub(crate) fn no_page(&self) -> Result<(), Refusal> {
        match (self.limit, &self.next) {
            (None, None) => Ok(()),
            (Some(_), _) | (None, Some(_)) => {
                Err(bad_query("a watch knows neither limit nor continue"))
            }
        }
    }
}

fn bad_query(why: &str) -> Refusal {
    Refusal::bad_request(
        "bad_query",
        why,
        "the parameters of each path are in /v1/openapi.json",
    )
}

/// Which events.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParams {
    /// How current the answer must be.
    #[serde(default)]
    #[param(inline)]
    pub(crate) consistency: Consistency,
    /// Go on with events as they happen, as server-sent events (`text/event-stream`, one `Event` each).
    #[serde(default, deserialize_with = "flag")]
    pub(crate) watch: bool,
    /// Only events with a greater `seq`; 0 is all that are remembered. A watch without it begins with the next event. A
    /// `Last-Event-ID` header wins.
    pub(crate) after: Option<u64>,
}

/// Parameters of a write.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteParams {
    /// Change nothing, answer what would be (`DryRun`).
    #[serde(default, deserialize_with = "flag")]
    pub(crate) dry_run: bool,
}

/// Parameters of a write of a pool.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PoolParams {
    /// Change nothing, answer what would be (`DryRun`).
    #[serde(default, deserialize_with = "flag")]
    pub(crate) dry_run: bool,
    /// Refuse blocks that overlap others, rather than have the younger pool hand out nothing until that ends.
    #[serde(default, deserialize_with = "flag")]
    pub(crate) strict: bool,
    /// Take addresses that the pool no longer has, and no other has either, from their VIPs, which ask anew; without it
    /// such a write is refused with the list of them.
    #[serde(default, deserialize_with = "flag")]
    pub(crate) force: bool,
}

impl PoolParams {
    /// What may come of it.
    pub(crate) fn care(self) -> Care {
        Care {
            strict: self.strict,
            force: self.force,
        }
    }

    /// What any write knows.
    pub(crate) fn write(self) -> WriteParams {
        WriteParams {
            dry_run: self.dry_run,
        }
    }
}

/// Reads `true`, `1`, `false`, `0`.
pub(crate) fn flag<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    match String::deserialize(input)?.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "{other:?} is neither true nor false"
        ))),
    }
}

/// What the `If-Match` and `If-None-Match` headers expect of the object.
pub(crate) fn expect(headers: &HeaderMap) -> Result<Expect, Refusal> {
    let bad = |name: &str, value: &str| {
        Refusal::bad_request(
            "bad_condition",
            format!("{name}: {value} is not a revision"),
            "send If-Match: \"REVISION\" as the object has it, or If-None-Match: *",
        )
    };
    if headers.contains_key(IF_MATCH) && headers.contains_key(IF_NONE_MATCH) {
        return Err(Refusal::bad_request(
            "bad_condition",
            "If-Match and If-None-Match together are never met",
            "send one of them",
        ));
    }
    if let Some(value) = headers.get(IF_MATCH) {
        let text = value.to_str().unwrap_or("?");
        return match text.trim().trim_matches('"').parse() {
            Ok(revision) => Ok(Expect::At {
                revision: Revision(revision),
            }),
            Err(_) => Err(bad("If-Match", text)),
        };
    }
    match headers
        .get(IF_NONE_MATCH)
        .map(|value| value.to_str().unwrap_or("?").trim())
    {
        None => Ok(Expect::Any),
        Some("*") => Ok(Expect::Absent),
        Some(other) => Err(bad("If-None-Match", other)),
    }
}

/// Refuses a condition on a request that knows none: to leave it out silently would be to break it.
pub(crate) fn unconditional(headers: &HeaderMap) -> Result<(), Refusal> {
    match expect(headers)? {
        Expect::Any => Ok(()),
        Expect::Absent | Expect::At { revision: _ } => Err(Refusal::bad_request(
            "bad_condition",
            "this request knows neither If-Match nor If-None-Match",
            "send it without; PUT, PATCH and DELETE of an object take If-Match: \"REVISION\"",
        )),
    }
}
