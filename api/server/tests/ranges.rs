//! What the ranges of pools offer, to the first and last address, over the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::site::{Site, at, v4};
use serde_json::json;

#[tokio::test]
async fn a_29_without_first_and_last_offers_six_also_on_request() {
    let site = Site::new().await;
    let kept = json!({ "allow_first_last": false });
    site.pool("web", &["10.0.0.64/29"], kept).await;
    assert_eq!(site.counts("web", "ipv4").await, [6, 0, 6]);
    site.vip("first", at(&["10.0.0.64"])).await;
    site.waits("first", &[], "reserved").await;
    site.vip("last", at(&["10.0.0.71"])).await;
    site.waits("last", &[], "reserved").await;
    site.vip("any", v4()).await;
    site.has("any", &["10.0.0.65"]).await;
    site.pool("web", &["10.0.0.64/29"], json!({})).await;
    site.has("first", &["10.0.0.64"]).await;
    assert_eq!(site.counts("web", "ipv4").await, [8, 3, 5]);
}

#[tokio::test]
async fn a_24_and_its_like_of_ipv6_give_their_first_and_last_address_only_where_that_is_allowed() {
    let site = Site::new().await;
    let blocks = ["10.0.9.0/24", "fd00::900/120"];
    let first = ["10.0.9.0", "fd00::900"];
    let last = ["10.0.9.255", "fd00::9ff"];
    site.pool("web", &blocks, json!({ "allow_first_last": false }))
        .await;
    site.vip("any", json!({ "families": "require_dual" })).await;
    site.has("any", &["10.0.9.1", "fd00::901"]).await;
    site.vip("first", at(&first)).await;
    site.waits("first", &[], "reserved").await;
    site.vip("last", at(&last)).await;
    site.waits("last", &[], "reserved").await;
    for family in ["ipv4", "ipv6"] {
        assert_eq!(site.counts("web", family).await, [254, 1, 253]);
    }
    site.pool("web", &blocks, json!({})).await;
    site.has("first", &first).await;
    site.has("last", &last).await;
    for family in ["ipv4", "ipv6"] {
        assert_eq!(site.counts("web", family).await, [256, 3, 253]);
    }
    site.pool("web", &blocks, json!({ "allow_first_last": false }))
        .await;
    site.has("first", &first).await;
    site.has("last", &last).await;
}

#[tokio::test]
async fn a_range_of_either_family_is_handed_out_to_its_last_address_and_no_further() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/29", "fd00::60-fd00::67"], json!({}))
        .await;
    let dual = || json!({ "families": "require_dual" });
    for n in 0..8 {
        let name = format!("v{n}");
        site.vip(&name, dual()).await;
        let addresses = [format!("10.0.0.{}", 64 + n), format!("fd00::6{n}")];
        site.has(&name, &addresses.each_ref().map(String::as_str))
            .await;
    }
    site.vip("late", dual()).await;
    site.waits("late", &[], "out_of_ips").await;
    for family in ["ipv4", "ipv6"] {
        assert_eq!(site.counts("web", family).await, [8, 8, 0]);
    }
    site.delete("v5").await;
    site.has("late", &["10.0.0.69", "fd00::65"]).await;
}

#[tokio::test]
async fn a_pool_of_several_ranges_goes_on_to_the_next_when_one_is_full() {
    let site = Site::new().await;
    let blocks = ["10.0.0.90", "10.0.0.64-10.0.0.65", "10.0.0.80/31"];
    site.pool("web", &blocks, json!({})).await;
    let order = [
        "10.0.0.64",
        "10.0.0.65",
        "10.0.0.80",
        "10.0.0.81",
        "10.0.0.90",
    ];
    for (i, address) in order.iter().enumerate() {
        assert_eq!(
            site.counts("web", "ipv4").await,
            [5, i as u128, 5 - i as u128]
        );
        let name = format!("v{i}");
        site.vip(&name, v4()).await;
        site.has(&name, &[address]).await;
    }
    site.vip("late", v4()).await;
    site.waits("late", &[], "out_of_ips").await;
    site.delete("v2").await;
    site.has("late", &["10.0.0.80"]).await;
}

#[tokio::test]
async fn single_addresses_and_the_smallest_prefixes_keep_nothing_back() {
    let site = Site::new().await;
    for (pool, block, total) in [
        ("a", "10.0.0.64/32", 1),
        ("b", "10.0.0.66/31", 2),
        ("c", "10.0.0.70", 1),
    ] {
        site.pool(pool, &[block], json!({ "allow_first_last": false }))
            .await;
        assert_eq!(site.counts(pool, "ipv4").await[0], total, "{block}");
    }
    site.pool("d", &["fd00::100/128"], json!({})).await;
    assert_eq!(site.counts("d", "ipv6").await, [1, 0, 1]);
    site.pool("e", &["2001:db8::/32"], json!({})).await;
    assert_eq!(site.counts("e", "ipv6").await[0], 1 << 96);
}

#[tokio::test]
async fn metrics_tell_what_a_pool_has_left_and_how_many_wait() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/31"], json!({})).await;
    for (vips, left, wait) in [(1, 1, 0), (2, 0, 0), (3, 0, 1)] {
        site.vip(&format!("v{vips}"), v4()).await;
        let told = site.metrics().await;
        let of_web = r#"{pool="web",family="ipv4"}"#;
        for line in [
            format!("vipd_pool_addresses{of_web} 2.0"),
            format!("vipd_pool_addresses_used{of_web} {}.0", 2 - left),
            format!("vipd_pool_addresses_available{of_web} {left}.0"),
            format!("vipd_vips_unsatisfied {wait}"),
        ] {
            assert!(
                told.lines().any(|it| it == line),
                "{line} is not in\n{told}"
            );
        }
    }
}
