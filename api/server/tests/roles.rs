//! Every route of the OpenAPI document, asked with every role.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use common::Node;
use reqwest::{Certificate, Method, StatusCode};
use vipd_api_types::Access;

/// Method, path and least role of each operation.
fn operations() -> Vec<(Method, String, String)> {
    let paths = vipd_api::openapi_document()["paths"].as_object().unwrap();
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let role = operation["x-role"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {path} has no role"));
            let method = method.to_uppercase().parse().unwrap();
            all.push((method, path.clone(), role.to_owned()));
        }
    }
    all
}

#[tokio::test]
async fn every_route_refuses_each_role_below_its_own_and_serves_the_others() {
    let node = Node::start().await;
    let mut tokens = BTreeMap::from([("none", None)]);
    for (name, access) in [
        ("read", Access::Read),
        ("write", Access::Write),
        ("admin", Access::Admin),
    ] {
        tokens.insert(name, Some(node.token(name, access).await));
    }
    // One for the program: a second one is refused, and does no harm.
    drop(rustls::crypto::ring::default_provider().install_default());
    let ca = Certificate::from_pem(node.ca_pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder()
        .tls_certs_only([ca])
        .build()
        .unwrap();
    let rank = |role: &str| {
        ["none", "read", "write", "admin"]
            .iter()
            .position(|known| *known == role)
            .unwrap()
    };
    let operations = operations();
    assert!(operations.len() >= 35, "{}", operations.len());
    for (method, path, needs) in operations {
        for (has, token) in &tokens {
            // Nothing is called x, and {} is no good body: what is let in is refused for other reasons.
            let url = format!("https://{}{}", node.tls, path.replace("{name}", "x"));
            let mut request = http.request(method.clone(), url).body("{}");
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let status = request.send().await.unwrap().status();
            let told = format!("{method} {path} needs {needs}, asked with {has}: {status}");
            match token {
                _ if rank(has) >= rank(&needs) => assert!(
                    status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN,
                    "{told}"
                ),
                Some(_) => assert_eq!(status, StatusCode::FORBIDDEN, "{told}"),
                None => assert_eq!(status, StatusCode::UNAUTHORIZED, "{told}"),
            }
        }
    }
}

#[test]
fn the_table_of_routes_in_the_documentation_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/access.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let title = "## What each route needs\n\n";
    let (before, kept) = text.split_once(title).unwrap();
    let mut table = String::from("| route | role |\n|---|---|\n");
    for (method, path, role) in operations() {
        writeln!(table, "| {method} `{path}` | {role} |").unwrap();
    }
    if std::env::var_os("VIPD_REFRESH_OPENAPI").is_some() {
        std::fs::write(&file, format!("{before}{title}{table}")).unwrap();
    } else {
        assert_eq!(
            kept, table,
            "refresh it: VIPD_REFRESH_OPENAPI=1 cargo test -p vipd-api --test roles"
        );
    }
}
