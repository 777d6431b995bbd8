//! What one client can take of a node, and what is his own, through the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::site::Site;
use common::{Node, reason};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use vipd_api_types::{Access, Vip};
use vipd_client::Selection;
use vipd_core::command::{Command, Expect};
use vipd_core::vip::VipSpec;

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is().await {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_write_is_carried_to_its_end_though_its_asker_hangs_up() {
    let site = Site::new().await;
    site.memory().set_pace(300);
    let mut stream = UnixStream::connect(site.socket()).await.unwrap();
    let head = "PUT /v1/vips/www HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    // By then it is on its way, and is not decided.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(reason(site.client.get::<Vip>("www").await), "not_found");
    drop(stream);
    until("the VIP is there", async || {
        site.client.get::<Vip>("www").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn watches_of_events_are_counted_among_the_watches() {
    let site = Site::new().await;
    let mut open = Vec::new();
    let refused = loop {
        match site.client.watch_events(0).await {
            Ok(watch) => open.push(watch),
            Err(refused) => break refused,
        }
        assert!(open.len() <= 64);
    };
    assert_eq!(refused.reason(), Some("too_many_requests"));
    let all = Selection::default();
    assert_eq!(
        reason(site.client.watch::<Vip>(&all, None).await.map(drop)),
        "too_many_requests"
    );
    drop(open);
    until("there is room", async || {
        site.client.watch_events(0).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_is_the_users_own() {
    let node = Node::start().await;
    // Whoever was first has installed the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(node.ca_pem.as_bytes()).unwrap())
        .build()
        .unwrap();
    let url = format!("https://{}/v1/vips", node.tls);
    let mut made = Vec::new();
    for user in ["a", "b", "a"] {
        let token = match made.iter().find(|(name, _, _)| *name == user) {
            Some((_, token, _)) => String::clone(token),
            None => node.token(user, Access::Write).await,
        };
        let post = http.post(&url).bearer_auth(&token).json(&json!({}));
        let answer = post.header("idempotency-key", "same").send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let body = answer.bytes().await.unwrap();
        let vip: Value = serde_json::from_slice(&body).unwrap();
        made.push((user, token, vip["name"].as_str().unwrap().to_owned()));
    }
    assert_ne!(made[0].2, made[1].2, "b is not answered what a was");
    assert_eq!(made[0].2, made[2].2, "a is answered as before");
}

/// A POST with a key: its `etag`, its `vipd-revision`, and the revision of what it shows.
async fn post_move(site: &Site) -> (String, String, u64) {
    let mut stream = UnixStream::connect(site.socket()).await.unwrap();
    let body = json!({ "to": "n2" }).to_string();
    let head = format!(
        "POST /v1/vips/www/move HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let header = |name: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let shown: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let revision = shown["revision"].as_u64().unwrap();
    (header("etag:"), header("vipd-revision:"), revision)
}

#[tokio::test]
async fn an_answer_that_is_given_again_has_the_etag_of_what_it_shows() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.10-10.0.0.19"], json!({})).await;
    site.vip("www", common::site::v4()).await;
    let first = post_move(&site).await;
    site.labelled("www", json!({ "a": "b" }), common::site::v4())
        .await;
    let again = post_move(&site).await;
    assert_eq!(again.1, first.1, "done at the same revision");
    assert!(again.2 > first.2);
    assert_eq!(again.0, format!("\"{}\"", again.2));
}

#[tokio::test]
async fn a_list_without_a_limit_ends_after_ten_thousand_and_the_client_reads_on() {
    let site = Site::new().await;
    for i in 0..10_001 {
        let put = Command::PutVip {
            name: format!("v{i}").parse().unwrap(),
            labels: [].into(),
            spec: VipSpec::default(),
            expect: Expect::Any,
        };
        site.memory().apply(put).unwrap();
    }
    let mut stream = UnixStream::connect(site.socket()).await.unwrap();
    let head = "GET /v1/vips HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let page: Value = serde_json::from_slice(&answer[at + 4..]).unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 10_000);
    assert!(page["continue"].is_string());
    assert_eq!(site.client.list::<Vip>().await.unwrap().items.len(), 10_001);
}

/// Another node, asked as it is: what it shows would be older than the list says.
#[tokio::test]
async fn a_list_is_not_gone_on_with_at_a_node_that_is_behind_where_it_was_begun() {
    let (ahead, behind) = (Site::new().await, Site::new().await);
    for name in ["a", "b"] {
        ahead.vip(name, json!({})).await;
    }
    let all = Selection::default();
    let first = ahead.client.page::<Vip>(&all, 1, None).await.unwrap();
    let next = first.next.unwrap();
    let path = format!("/v1/vips?consistency=local&continue={next}");
    let mut stream = UnixStream::connect(behind.socket()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("not_caught_up"), "{answer}");
}

#[tokio::test]
async fn one_address_has_half_of_the_connections_and_another_is_served() {
    let node = Node::start().await;
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(TcpStream::connect(node.metrics).await.unwrap());
    }
    // What is beyond its share was closed: its end is read at once, and the others wait for a request.
    let mut closed = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while closed < 44 {
        assert!(Instant::now() < deadline, "{closed} are closed");
        let before = open.len();
        open.retain(|stream| {
            let end = stream.try_read(&mut [0; 1]);
            !matches!(end, Ok(0))
                && !matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
        });
        closed += before - open.len();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((closed, open.len()), (44, 256));
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut other = other.connect(node.metrics).await.unwrap();
    let head = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    other.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
