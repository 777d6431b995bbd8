//! What is true of many paths at once, put into the document in one place: how one is let in, headers, what a dry run
//! answers, and how each request can be refused.

use serde_json::{Map, Value, json};

/// Ways to be refused: status, the stable reasons, and when.
const REFUSALS: [(&str, &str, For); 17] = [
    (
        "400",
        "The request is malformed: `bad_body`, `unknown_field`, `name_mismatch`, `bad_query`, `bad_selector`, `bad_continue`, \
         `bad_revision`, `bad_condition`, `bad_idempotency_key`, `bad_path`",
        For::All,
    ),
    (
        "401",
        "A good token is needed: `no_token`, `bad_token`, `token_expired`, `token_revoked`",
        For::Guarded,
    ),
    (
        "403",
        "The token does not allow it: `forbidden`",
        For::Guarded,
    ),
    (
        "404",
        "There is no such object, or no such path: `not_found`, `no_such_path`",
        For::Named,
    ),
    (
        "408",
        "The body did not come within 5 s (that of a restore: 60 s): `slow_body`",
        For::Body,
    ),
    (
        "409",
        "It cannot be done as things are: `already_exists`, `overlap`, `pool_in_use`, `cannot_hold`, `on_its_way`, `node_busy`, \
         `host_address`, `already_allocated`, `already_allocated_incompatible`, `pool_disabled`, `pool_conflicting`, \
         `pool_selector_mismatch`, `no_pool`, `out_of_ips`, `cooling_down`, `stale_lease`, `voters_changed`, `state_full`, `another_cluster`, `refused`",
        For::Write,
    ),
    (
        "410",
        "List anew: `continue_expired`, `revision_expired`, `events_expired`",
        For::Collection,
    ),
    (
        "412",
        "Somebody else has changed it: `revision_mismatch`; or, with `If-None-Match: *`, has made it: `already_exists`",
        For::Write,
    ),
    (
        "413",
        "The body has more than 1 MiB (that of a restore: 64 MiB), or what comes of it more than the log takes at once: `body_too_large`, `object_too_large`",
        For::Body,
    ),
    (
        "415",
        "The body is of another kind: `unsupported_media_type`",
        For::Body,
    ),
    (
        "422",
        "A value is not acceptable: `invalid`, `not_in_any_pool`, `reserved`, `too_deep`, `too_many`, `too_long`, `idempotency_mismatch`, \
         `bad_checksum`, `unknown_format`",
        For::Write,
    ),
    (
        "429",
        "The node has enough to do; `Retry-After` says when to come again: `too_many_requests`",
        For::Guarded,
    ),
    ("500", "The node could not do it: `failed`", For::All),
    (
        "503",
        "The cluster cannot decide, the node is shutting down, or others change the object all the time: `no_quorum`, `stopping`, \
         `contended`",
        For::Guarded,
    ),
    (
        "504",
        "Not decided or not applied in time; it may still be: `timed_out`, `not_caught_up`",
        For::All,
    ),
    (
        "405",
        "The path does not take that method: `no_such_method`",
        For::All,
    ),
    ("default", "Any other refusal", For::All),
];

/// Which requests can be refused so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    All,
    Guarded,
    Named,
    Body,
    Write,
    Collection,
}

/// Puts it into the document.
pub(super) fn all(document: &mut Value) {
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Over TLS: a token of access read, write or admin. On the unix socket, who may open it may do everything.",
        },
    });
    unsigned(document);
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else {
        return;
    };
    for (path, methods) in paths {
        let Some(methods) = methods.as_object_mut() else {
            continue;
        };
        for (method, operation) in methods {
            describe(path, method, operation, &schemas);
        }
    }
}

fn describe(path: &str, method: &str, operation: &mut Value, schemas: &Value) {
    let guarded = path.starts_with("/v1/");
    if guarded {
        operation["security"] = json!([{ "token": [] }]);
    }
    if operation["parameters"].is_null() {
        operation["parameters"] = json!([]);
    }
    parameters(path, method, operation);
    stream(operation);
    dry_run(path, operation, schemas);
    let body = !operation["requestBody"].is_null();
    let write = guarded && method != "get";
    if operation["responses"].is_null() {
        operation["responses"] = json!({});
    }
    for (status, description, of) in REFUSALS {
        let fits = match of {
            For::All => true,
            For::Guarded => guarded,
            For::Named => path.contains('{') || path == "/v1/plan" || (body && write),
            For::Body => body,
            For::Write => write,
            For::Collection => guarded && method == "get" && !path.contains('{'),
        };
        if fits {
            operation["responses"][status] = json!({
                "description": description,
                "content": {
                    "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
                },
            });
        }
    }
    if let Some(busy) = operation["responses"].get_mut("429") {
        busy["headers"] = json!({
            "Retry-After": { "schema": { "type": "integer" }, "description": "Seconds to wait" },
        });
    }
}

/// Numbers without a sign are said to be so: `int64` alone would end at half of what is taken.
fn unsigned(value: &mut Value) {
    if value["type"] == "integer" && value["minimum"].as_u64().is_some() {
        let format = match value["format"].as_str() {
            Some("int64") => "uint64",
            Some("int32") => "uint32",
            Some(_) | None => return,
        };
        value["format"] = json!(format);
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(unsigned),
        Value::Object(members) => members.values_mut().for_each(unsigned),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A stream is described by one of its events, whose `data` is what the route has said.
fn stream(operation: &mut Value) {
    let content = operation.pointer_mut("/responses/200/content/text~1event-stream/schema");
    if let Some(schema) = content {
        let data = schema.take();
        *schema = json!({
            "type": "object",
            "description": "One event of the stream.",
            "properties": {
                "event": { "type": "string" },
                "id": { "type": "string", "description": "What a `Last-Event-ID` header goes on from." },
                "data": { "type": "string", "contentMediaType": "application/json", "contentSchema": data },
            },
            "required": ["data"],
        });
    }
}

fn parameters(path: &str, method: &str, operation: &mut Value) {
    let Some(parameters) = operation["parameters"].as_array_mut() else {
        return;
    };
    for parameter in parameters.iter_mut() {
        // What is left out of a header is not null.
        if parameter["in"] == "header" && parameter["schema"]["type"].is_array() {
            parameter["schema"]["type"] = parameter["schema"]["type"][0].take();
        }
        if parameter["in"] == "path" && parameter["name"] == "name" {
            parameter["description"] = json!("The object's name");
            parameter["schema"] = json!({
                "type": "string",
                "pattern": "^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
            });
        }
    }
    let kinds = [
        "/v1/pools",
        "/v1/vips",
        "/v1/policies",
        "/v1/nodes",
        "/v1/cluster/rebalance",
    ];
    if method == "post" && kinds.iter().any(|kind| path.starts_with(kind)) {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "A random text of 1 to 255 characters. The same request with the same key, also to another node, is carried out \
                once and answered as the first time (a rebalance: with no further moves), for a day and 1000 further keys; another request with it is refused \
                (`idempotency_mismatch`). What was refused is not remembered.",
            "schema": { "type": "string", "pattern": "^[!-~]{1,255}$" },
        }));
    }
    let object = ["pools", "vips", "policies", "nodes"]
        .iter()
        .any(|kind| path == format!("/v1/{kind}/{{name}}"));
    if !object || method == "get" {
        return;
    }
    parameters.push(json!({
        "name": "If-Match",
        "in": "header",
        "required": false,
        "description": "The revision that the object must still have, as its `revision` or the `ETag` of an answer says it.",
        "schema": { "type": "string", "pattern": "^\"?[0-9]{1,19}\"?$" },
    }));
    if !path.starts_with("/v1/nodes") || method == "patch" {
        let description = match method {
            "put" => "`*`: only if there is none of that name.",
            _ => {
                "`*`: only if there is none of that name, so that there is nothing to do: always refused."
            }
        };
        parameters.push(json!({
            "name": "If-None-Match",
            "in": "header",
            "required": false,
            "description": description,
            "schema": { "type": "string", "enum": ["*"] },
        }));
    }
}

/// What a write with `dry_run=true` answers.
fn dry_run(path: &str, operation: &mut Value, schemas: &Value) {
    let parameters = operation["parameters"].as_array();
    let knows = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "dry_run"));
    let own = operation["responses"]["200"]["content"]["application/json"]["schema"].clone();
    let kind = match path.split('/').nth(2) {
        Some("pools") => "Pool",
        Some("vips") => "Vip",
        Some("policies") => "Policy",
        Some("nodes") => "Node",
        Some("tokens") => "ApiToken",
        // A rebalance answers with the same either way.
        Some(_) | None => return,
    };
    let tried = format!("DryRun_{kind}");
    if !knows || schemas[&tried].is_null() {
        return;
    }
    let tried = json!({ "$ref": format!("#/components/schemas/{tried}") });
    let schema = match own {
        Value::Null => tried,
        own => json!({ "anyOf": [own, tried] }),
    };
    let mut response = Map::new();
    let description = "The object as it is now, or with `dry_run` what would be";
    response.insert("description".into(), json!(description));
    response.insert(
        "content".into(),
        json!({ "application/json": { "schema": schema } }),
    );
    operation["responses"]["200"] = Value::Object(response);
}
