//! The checked-in OpenAPI document is the one that the daemon serves.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::Node;

const REFRESH: &str = "VIPD_REFRESH_OPENAPI=1 cargo test -p vipd-api --test openapi";

#[test]
fn the_checked_in_document_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi.json");
    let now = vipd_api::openapi_document();
    if std::env::var_os("VIPD_REFRESH_OPENAPI").is_some() {
        let mut text = serde_json::to_string_pretty(now).unwrap();
        text.push('\n');
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap_or_default();
    assert!(
        kept == *now,
        "api/openapi.json is out of date; refresh it and look at the difference:\n  {REFRESH}"
    );
}

#[test]
fn every_path_of_the_contract_is_described() {
    let paths = vipd_api::openapi_document()["paths"].as_object().unwrap();
    for (path, methods) in [
        ("/v1/pools", vec!["get", "post"]),
        ("/v1/pools/{name}", vec!["delete", "get", "patch", "put"]),
        ("/v1/vips", vec!["get", "post"]),
        ("/v1/vips/{name}", vec!["delete", "get", "patch", "put"]),
        ("/v1/vips/{name}/move", vec!["post"]),
        ("/v1/nodes", vec!["get"]),
        ("/v1/nodes/{name}", vec!["get", "patch"]),
        ("/v1/lb/services", vec!["get"]),
        ("/v1/lb/connections", vec!["get"]),
        ("/v1/lb/affinity", vec!["get"]),
        ("/v1/lb/maglev", vec!["get"]),
        ("/v1/maps", vec!["get"]),
        ("/v1/maps/{name}", vec!["get"]),
        ("/v1/lb/trace", vec!["get"]),
        ("/v1/policies", vec!["get", "post"]),
        ("/v1/policies/{name}", vec!["delete", "get", "patch", "put"]),
        ("/v1/plan", vec!["get"]),
        ("/v1/cluster/rebalance", vec!["post"]),
        ("/v1/nodes/{name}/drain", vec!["post"]),
        ("/v1/nodes/{name}/undrain", vec!["post"]),
        ("/v1/cluster", vec!["get"]),
        ("/v1/cluster/members", vec!["post"]),
        ("/v1/cluster/members/{name}", vec!["delete"]),
        ("/v1/cluster/snapshot", vec!["get", "post"]),
        ("/v1/cluster/restore", vec!["post"]),
        ("/v1/cluster/tokens", vec!["post"]),
        ("/v1/tokens", vec!["get", "post"]),
        ("/v1/tokens/{name}", vec!["delete"]),
        ("/v1/events", vec!["get"]),
        ("/metrics", vec!["get"]),
        ("/healthz", vec!["get"]),
        ("/readyz", vec!["get"]),
    ] {
        let mut described: Vec<_> = paths[path]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        described.sort_unstable();
        assert_eq!(described, methods, "{path}");
    }
    assert_eq!(paths.len(), 32);
}

#[tokio::test]
async fn the_daemon_serves_it() {
    let node = Node::start().await;
    let request = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = common::http_unix(&node.socket, request).await;
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(
        &serde_json::from_str::<serde_json::Value>(body).unwrap(),
        vipd_api::openapi_document()
    );
}
