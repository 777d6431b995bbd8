//! How backends are looked after, over the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::site::{Site, but, nat, refused};
use serde_json::json;
use vipd_api_types::{Condition, Vip};
use vipd_core::command::Command;
use vipd_core::id::NodeId;

async fn site() -> Site {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site
}

#[tokio::test]
async fn every_kind_of_check_is_read_back_as_it_was_written() {
    let site = site().await;
    for check in [
        json!({ "kind": "tcp" }),
        json!({ "kind": "http", "path": "/a", "host": "www.example", "status": 204, "expect": "ready" }),
        json!({ "kind": "https", "path": "/", "host": "www.example", "status": "200-299,304" }),
        json!({ "kind": "https", "path": "/", "insecure": true }),
        json!({ "kind": "udp", "port": 53, "send": "0x00ff", "expect": "" }),
        json!({ "kind": "udp", "port": 53, "send": "ping", "expect": "pong" }),
        json!({ "kind": "exec", "program": "look.sh", "all_down": "withdraw" }),
    ] {
        let written: Vip = site
            .vip("www", but(nat(), json!({ "health": check })))
            .await;
        let read = serde_json::to_value(&written.spec.health).unwrap();
        let usual = json!({ "interval": "2s", "timeout": "1s", "fall": 3, "rise": 2 });
        assert_eq!(read, but(check.clone(), usual));
        let again = site
            .vip("www", serde_json::to_value(&written.spec).unwrap())
            .await;
        assert_eq!(again.revision, written.revision, "{check}");
    }
}

fn seen(vip: &Vip) -> Option<&Condition> {
    vip.status.conditions.iter().find(|it| it.kind == "seen")
}

#[tokio::test]
async fn a_vip_tells_who_sees_all_of_its_backends_down_and_is_not_there() {
    let site = site().await;
    let health = json!({ "kind": "tcp", "all_down": "withdraw" });
    let vip: Vip = site
        .vip("www", but(nat(), json!({ "health": health })))
        .await;
    assert_eq!(vip.status.addresses[0].holder.as_deref(), Some("n1"));
    assert_eq!(seen(&vip), None);
    let told = Command::Sight {
        node: NodeId(1),
        vip: "www".parse().unwrap(),
        down: true,
    };
    site.memory().apply(told).unwrap();
    let vip = site.client.get::<Vip>("www").await.unwrap();
    assert_ne!(vip.status.addresses[0].holder.as_deref(), Some("n1"));
    let seen = seen(&vip).unwrap();
    assert_eq!((seen.status, seen.reason.as_str()), (false, "all_down"));
    assert!(seen.message.contains("n1 sees them"), "{}", seen.message);
}

#[tokio::test]
async fn a_health_check_is_read_back_with_what_it_left_out_and_tells_how_backends_are() {
    let site = site().await;
    let backends = json!([{ "address": "10.9.0.1" }, { "address": "10.9.0.2", "port": 81 }]);
    let spec = but(
        nat(),
        json!({ "backends": backends, "health": { "kind": "http", "interval": "5s", "fall": 1 } }),
    );
    let written: Vip = site.vip("www", spec).await;
    let check = serde_json::to_value(written.spec.health).unwrap();
    assert_eq!(
        check,
        json!({ "kind": "http", "path": "/", "interval": "5s", "timeout": "1s", "fall": 1, "rise": 2 })
    );
    let vip = site.client.get::<Vip>("www").await.unwrap();
    let told: Vec<_> = vip
        .status
        .backends
        .iter()
        .map(|it| (it.address.as_str(), it.port, it.healthy, it.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("10.9.0.1", None, false, "connection refused"),
            ("10.9.0.2", Some(81), true, "accepts connections")
        ]
    );
}

#[tokio::test]
async fn a_health_check_that_cannot_be_made_is_refused_with_the_reason() {
    let site = site().await;
    for (health, why) in [
        (
            json!({ "path": "/x" }),
            "with kind tcp: it is for http, https",
        ),
        (
            json!({ "kind": "http", "insecure": true }),
            "it is for https",
        ),
        (json!({ "kind": "https" }), "health.host"),
        (json!({ "kind": "http", "send": "x" }), "it is for udp"),
        (
            json!({ "kind": "udp", "port": 53, "send": "0x0" }),
            "two hexadecimal digits",
        ),
        (json!({ "kind": "udp" }), "none of its UDP ports"),
        (json!({ "kind": "exec" }), "health.exec_dir"),
        (
            json!({ "kind": "exec", "program": "../../bin/sh" }),
            "without a path",
        ),
        (json!({ "kind": "http", "path": "x" }), "begins with /"),
        (json!({ "interval": "1ms" }), "100ms to 1h"),
        (json!({ "timeout": "3s" }), "3000 ms to answer"),
        (json!({ "fall": 0 }), "fall 0"),
        (json!({ "port": 0 }), "leave it out"),
        (json!({ "kind": "http", "status": 99 }), "100 to 599"),
    ] {
        let (reason, told) = refused(&site, but(nat(), json!({ "health": health }))).await;
        assert_eq!(reason, "invalid", "{told}");
        assert!(told.contains(why), "{told:?} lacks {why:?}");
    }
    let local = json!({ "families": "ipv4", "health": {} });
    assert!(refused(&site, local).await.1.contains("mode is local"));
    let own = json!({ "families": "ipv4", "health": { "port": 80, "all_down": "withdraw" } });
    site.vip("own", own).await;
}
