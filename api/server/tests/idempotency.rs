//! `Idempotency-Key` through the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::site::Site;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use vipd_api::{Api, bind_unix};
use vipd_api_types::Vip;
use vipd_client::WriteOptions;

/// A POST with a key: its status and the JSON that it was answered with.
async fn post(socket: &Path, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Another node with the same replicated state, as after a change of leader.
async fn another_node(site: &Site) -> (PathBuf, tempfile::TempDir, CancellationToken) {
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("other.sock");
    let (listener, stop) = (bind_unix(&socket).unwrap(), CancellationToken::new());
    let api = Api::new(site.shared_memory());
    tokio::spawn(api.serve_unix(listener, stop.clone()));
    (socket, dir, stop)
}

#[tokio::test]
async fn a_request_that_is_sent_again_makes_one_object_also_by_another_node() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.10-10.0.0.19"], json!({})).await;
    let body = json!({ "spec": { "families": "ipv4" } });
    let (status, first) = post(site.socket(), "/v1/vips", "k-1", &body).await;
    assert_eq!(status, 201, "{first}");
    let (other, _dir, stop) = another_node(&site).await;
    for socket in [site.socket(), other.as_path()] {
        let (status, again) = post(socket, "/v1/vips", "k-1", &body).await;
        assert_eq!(status, 201, "{again}");
        assert_eq!(
            again["name"], first["name"],
            "the generated name is the same"
        );
        assert_eq!(again["revision"], first["revision"]);
    }
    assert_eq!(site.client.list::<Vip>().await.unwrap().items.len(), 1);
    let (status, second) = post(site.socket(), "/v1/vips", "k-2", &body).await;
    assert_eq!(status, 201);
    assert_ne!(
        second["name"], first["name"],
        "another key is another request"
    );
    stop.cancel();
}

#[tokio::test]
async fn a_key_that_is_sent_with_another_request_is_refused() {
    let site = Site::new().await;
    let body = |name: &str| json!({ "name": name });
    assert_eq!(
        post(site.socket(), "/v1/vips", "k", &body("a")).await.0,
        201
    );
    for (path, body) in [("/v1/vips", body("b")), ("/v1/policies", body("a"))] {
        let (status, problem) = post(site.socket(), path, "k", &body).await;
        assert_eq!(
            (status, &problem["reason"]),
            (422, &json!("idempotency_mismatch"))
        );
    }
    assert_eq!(site.client.list::<Vip>().await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_move_that_is_sent_again_does_not_move_back() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.10-10.0.0.19"], json!({})).await;
    site.vip("www", common::site::v4()).await;
    let holder = async || {
        let www = site.client.get::<Vip>("www").await.unwrap();
        www.status.addresses[0].holder.clone().unwrap()
    };
    let to = |node: &str| json!({ "to": node });
    assert_eq!(
        post(site.socket(), "/v1/vips/www/move", "k", &to("n2"))
            .await
            .0,
        200
    );
    assert_eq!(holder().await, "n2");
    assert_eq!(
        post(site.socket(), "/v1/vips/www/move", "l", &to("n3"))
            .await
            .0,
        200
    );
    assert_eq!(
        post(site.socket(), "/v1/vips/www/move", "k", &to("n2"))
            .await
            .0,
        200
    );
    assert_eq!(holder().await, "n3");
}

#[tokio::test]
async fn what_was_refused_is_judged_anew_when_it_is_sent_again() {
    let site = Site::new().await;
    let www = json!({ "name": "www" });
    site.vip("www", json!({})).await;
    assert_eq!(post(site.socket(), "/v1/vips", "k", &www).await.0, 409);
    site.client
        .delete::<Vip>("www", WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(post(site.socket(), "/v1/vips", "k", &www).await.0, 201);
}

#[tokio::test]
async fn a_key_that_is_none_or_would_mean_nothing_is_refused() {
    let site = Site::new().await;
    let long = "x".repeat(256);
    let token = json!({ "name": "t", "access": "read" });
    let (secret, twice) = (
        "its answer holds a secret",
        "the second time it changes nothing",
    );
    for (path, key, body, why) in [
        ("/v1/vips", "", json!({}), "1 to 255"),
        ("/v1/vips", long.as_str(), json!({}), "1 to 255"),
        ("/v1/vips", "two words", json!({}), "1 to 255"),
        ("/v1/tokens", "k", token, secret),
        ("/v1/cluster/tokens", "k", json!({}), secret),
        ("/v1/cluster/members", "k", json!({ "name": "n2" }), twice),
        ("/v1/cluster/restore", "k", json!({}), twice),
        ("/v1/cluster/snapshot", "k", json!({}), twice),
    ] {
        let (status, problem) = post(site.socket(), path, key, &body).await;
        assert_eq!(
            (status, &problem["reason"]),
            (400, &json!("bad_idempotency_key"))
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{path}: {detail}");
    }
}

#[tokio::test]
async fn each_path_that_takes_a_key_says_so_in_the_document() {
    let site = Site::new().await;
    let paths = vipd_api::openapi_document()["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let Some(post_of) = methods.get("post") else {
            continue;
        };
        let parameters = post_of["parameters"].as_array().unwrap();
        let said = parameters.iter().any(|it| it["name"] == "Idempotency-Key");
        // A key that is none is refused wherever keys are known; elsewhere each is.
        let at = path.replace("{name}", "x");
        let (_, problem) = post(site.socket(), &at, &"x".repeat(256), &json!({})).await;
        let known = problem["detail"].as_str().unwrap().contains("1 to 255");
        assert_eq!(said, known, "{path}: {problem}");
    }
}
