//! Sharing over the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::site::{Site, addresses};
use serde_json::{Value, json};
use vipd_api_types::Vip;

/// A VIP that may share by this key and claims this TCP port.
fn shares(key: &str, port: u16) -> Value {
    json!({ "families": "ipv4", "sharing_key": key, "ports": [{ "port": port }] })
}

fn with(mut spec: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

async fn site() -> Site {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/30"], json!({})).await;
    site
}

#[tokio::test]
async fn vips_of_one_key_and_different_ports_share_an_address_and_others_do_not() {
    let site = site().await;
    site.vip("a", shares("k", 80)).await;
    site.vip("b", shares("k", 8080)).await;
    site.vip("c", shares("x", 81)).await;
    site.has("a", &["10.0.0.64"]).await;
    site.has("b", &["10.0.0.64"]).await;
    site.has("c", &["10.0.0.65"]).await;
    let b = site.client.get::<Vip>("b").await.unwrap();
    assert_eq!(b.status.addresses[0].shared_with, ["a"]);
    let a = site.client.get::<Vip>("a").await.unwrap();
    let holder = |vip: &Vip| vip.status.addresses[0].holder.clone();
    assert!(
        holder(&a).is_some() && holder(&a) == holder(&b),
        "one holder"
    );
}

#[tokio::test]
async fn a_port_clash_gives_the_key_another_address() {
    let site = site().await;
    site.vip("a", shares("k", 80)).await;
    site.vip("b", shares("k", 80)).await;
    site.has("b", &["10.0.0.65"]).await;
    site.vip("c", shares("k", 81)).await;
    site.has("c", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn tcp_53_and_udp_53_share() {
    let site = site().await;
    site.vip("tcp", shares("dns", 53)).await;
    let udp = json!({ "ports": [{ "port": 53, "protocol": "udp" }] });
    site.vip("udp", with(shares("dns", 53), udp)).await;
    site.has("udp", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn an_address_is_freed_with_its_last_user() {
    let site = site().await;
    site.vip("a", shares("k", 80)).await;
    site.vip("b", shares("k", 81)).await;
    site.delete("a").await;
    assert_eq!(site.counts("web", "ipv4").await, [4, 1, 3]);
    site.has("b", &["10.0.0.64"]).await;
    site.delete("b").await;
    assert_eq!(site.counts("web", "ipv4").await, [4, 0, 4]);
}

#[tokio::test]
async fn a_changed_key_or_port_moves_the_changed_one() {
    let site = site().await;
    site.vip("a", shares("k", 80)).await;
    site.vip("b", shares("k", 81)).await;
    site.vip("a", shares("k", 81)).await;
    site.has("a", &["10.0.0.65"]).await;
    site.has("b", &["10.0.0.64"]).await;
    site.vip("a", shares("k", 80)).await;
    site.has("a", &["10.0.0.65"]).await;
    site.vip("b", shares("x", 81)).await;
    site.has("b", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn a_key_added_to_a_live_vip_keeps_its_address() {
    let site = site().await;
    let plain = json!({ "families": "ipv4", "ports": [{ "port": 80 }] });
    site.vip("a", plain).await;
    site.vip("a", shares("k", 80)).await;
    site.has("a", &["10.0.0.64"]).await;
    site.vip("b", shares("k", 81)).await;
    site.has("b", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn other_namespaces_share_only_where_both_allow_it() {
    let site = site().await;
    let of = |namespace: &str, allows: &[&str], port: u16| {
        let more = json!({ "namespace": namespace, "sharing_namespaces": allows });
        with(shares("k", port), more)
    };
    site.vip("a", of("blue", &["red"], 80)).await;
    site.vip("b", of("red", &[], 81)).await;
    site.has("b", &["10.0.0.65"]).await;
    site.delete("b").await;
    site.vip("b", of("red", &["*"], 81)).await;
    site.has("b", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn an_address_that_others_have_is_refused_with_the_first_rule_that_fails() {
    let site = site().await;
    let at = |spec: Value| with(spec, json!({ "addresses": ["10.0.0.66"] }));
    site.vip("a", at(shares("k", 80))).await;
    for (name, spec, why) in [
        ("key", shares("x", 80), "different sharing key"),
        (
            "namespace",
            with(shares("k", 80), json!({ "namespace": "red" })),
            "different and not permitted namespace",
        ),
        ("port", shares("k", 80), "same port and protocol: TCP 80"),
    ] {
        let vip = site.vip(name, at(spec)).await;
        let condition = &vip.status.conditions[0];
        assert_eq!(condition.reason, "already_allocated_incompatible");
        assert!(condition.message.contains(why), "{}", condition.message);
        assert!(addresses(&vip).is_empty());
    }
}

#[tokio::test]
async fn a_reserved_address_with_a_key_is_refused_and_nothing_breaks() {
    let site = Site::new().await;
    let kept = json!({ "allow_first_last": false });
    site.pool("web", &["10.0.0.64/29"], kept).await;
    for name in ["a", "b"] {
        let spec = with(shares("k", 80), json!({ "addresses": ["10.0.0.64"] }));
        site.vip(name, spec).await;
        site.waits(name, &[], "reserved").await;
    }
}

#[tokio::test]
async fn a_full_pool_takes_in_one_more_that_shares() {
    let site = site().await;
    for (name, port) in [("a", 1), ("b", 1), ("c", 1), ("d", 1)] {
        site.vip(name, shares("k", port)).await;
    }
    site.vip("fifth", shares("k", 1)).await;
    site.waits("fifth", &[], "out_of_ips").await;
    site.vip("sixth", shares("k", 2)).await;
    site.has("sixth", &["10.0.0.64"]).await;
}
