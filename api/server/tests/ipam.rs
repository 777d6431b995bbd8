//! Addresses over the real HTTP API: the behaviours that the users of Cilium, MetalLB and PureLB rely on, each by name.
#![allow(clippy::unwrap_used)]

mod common;

use common::reason;
use common::site::{Site, at, v4, v4_and};
use serde_json::json;
use vipd_api_types::{Pool, Vip};
use vipd_client::WriteOptions;

const PLAIN: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};
const STRICT: WriteOptions = WriteOptions {
    strict: true,
    ..PLAIN
};
const FORCE: WriteOptions = WriteOptions {
    force: true,
    ..PLAIN
};

#[tokio::test]
async fn of_two_pools_that_overlap_the_younger_is_in_conflict_until_the_overlap_is_gone() {
    let site = Site::new().await;
    site.pool("old", &["10.0.0.64/26"], json!({})).await;
    let new = site.pool("new", &["10.0.0.96/28"], json!({})).await;
    assert!(new.status.conflicting);
    let condition = &new.status.conditions[0];
    assert_eq!(condition.reason, "pool_conflicting");
    for part in ["10.0.0.96/28", "10.0.0.64/26", "old"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    site.vip("a", v4_and(json!({ "pool": "new" }))).await;
    site.waits("a", &[], "pool_conflicting").await;
    site.pool("old", &["10.0.0.64/27"], json!({})).await;
    site.has("a", &["10.0.0.96"]).await;
}

#[tokio::test]
async fn a_pool_whose_own_blocks_overlap_is_in_conflict_with_itself() {
    let site = Site::new().await;
    let blocks = ["10.0.0.64/28", "10.0.0.70-10.0.0.90"];
    let pool = site.pool("web", &blocks, json!({})).await;
    assert!(pool.status.conflicting);
    let each_once = [27, 0, 27];
    assert_eq!(site.counts("web", "ipv4").await, each_once);
    let refused = site.try_pool("x", &blocks, json!({}), STRICT).await;
    assert_eq!(reason(refused), "overlap");
}

#[tokio::test]
async fn a_family_changes_from_ipv4_to_ipv6_and_back() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28", "fd00::60/124"], json!({}))
        .await;
    for (families, address) in [
        ("ipv4", "10.0.0.64"),
        ("ipv6", "fd00::60"),
        ("ipv4", "10.0.0.64"),
    ] {
        site.vip("a", json!({ "families": families })).await;
        site.has("a", &[address]).await;
    }
    assert_eq!(site.counts("web", "ipv6").await, [16, 0, 16]);
}

#[tokio::test]
async fn a_deleted_vip_frees_its_address_for_whoever_waits_longest() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64"], json!({})).await;
    site.vip("a", v4()).await;
    site.vip("z", v4()).await;
    site.vip("b", v4()).await;
    site.waits("z", &[], "out_of_ips").await;
    site.delete("a").await;
    site.has("z", &["10.0.0.64"]).await;
    site.waits("b", &[], "out_of_ips").await;
}

#[tokio::test]
async fn a_pool_selects_by_label_and_a_vip_whose_label_goes_loses_its_address() {
    let site = Site::new().await;
    let red = json!({ "selector": { "match_labels": { "color": "red" } } });
    site.pool("red", &["10.0.0.64/28"], red).await;
    site.labelled("a", json!({ "color": "red" }), v4()).await;
    site.labelled("b", json!({ "color": "blue" }), v4()).await;
    site.has("a", &["10.0.0.64"]).await;
    site.waits("b", &[], "pool_selector_mismatch").await;
    site.labelled("a", json!({}), v4()).await;
    site.waits("a", &[], "pool_selector_mismatch").await;
}

#[tokio::test]
async fn a_pool_selects_by_namespace_which_no_label_can_pretend() {
    let site = Site::new().await;
    let blue = json!({ "selector": { "match_labels": { "vipd/namespace": "blue" } } });
    site.pool("blue", &["10.0.0.64/28"], blue).await;
    site.labelled("a", json!({ "vipd/namespace": "blue" }), v4())
        .await;
    site.waits("a", &[], "pool_selector_mismatch").await;
    site.vip("b", v4_and(json!({ "namespace": "blue" }))).await;
    site.has("b", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn a_changed_selector_takes_nothing_away() {
    let site = Site::new().await;
    let of = |color: &str| json!({ "selector": { "match_labels": { "color": color } } });
    site.pool("p", &["10.0.0.64/28"], of("red")).await;
    site.labelled("a", json!({ "color": "red" }), v4()).await;
    site.pool("p", &["10.0.0.64/28"], of("blue")).await;
    site.has("a", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn an_address_of_a_pool_that_does_not_select_the_vip_is_not_given_though_it_is_named() {
    let site = Site::new().await;
    let red = json!({ "selector": { "match_labels": { "color": "red" } } });
    site.pool("red", &["10.0.0.64/28"], red).await;
    let named = || at(&["10.0.0.70"]);
    site.labelled("a", json!({ "color": "blue" }), named())
        .await;
    site.waits("a", &[], "pool_selector_mismatch").await;
    assert_eq!(site.counts("red", "ipv4").await, [16, 0, 16]);
    site.labelled("a", json!({ "color": "red" }), named()).await;
    site.has("a", &["10.0.0.70"]).await;
}

#[tokio::test]
async fn of_three_requested_addresses_two_are_given_and_the_third_is_told_of() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.vip("a", at(&["10.0.0.65"])).await;
    let b = ["10.0.0.64", "10.0.0.65", "10.0.0.66"];
    site.vip("b", at(&b)).await;
    site.waits("b", &["10.0.0.64", "10.0.0.66"], "already_allocated")
        .await;
    site.vip("b", at(&["10.0.0.66"])).await;
    site.has("b", &["10.0.0.66"]).await;
    assert_eq!(site.counts("web", "ipv4").await, [16, 2, 14]);
}

#[tokio::test]
async fn an_added_pool_or_block_serves_those_who_wait() {
    let site = Site::new().await;
    site.vip("a", v4()).await;
    site.vip("b", v4()).await;
    site.waits("a", &[], "no_pool").await;
    site.pool("web", &["10.0.0.64"], json!({})).await;
    site.has("a", &["10.0.0.64"]).await;
    site.waits("b", &[], "out_of_ips").await;
    site.pool("web", &["10.0.0.64", "10.0.0.80"], json!({}))
        .await;
    site.has("b", &["10.0.0.80"]).await;
}

#[tokio::test]
async fn a_disabled_pool_keeps_what_it_gave_refuses_even_requests_and_goes_on_when_enabled() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.vip("a", v4()).await;
    site.pool("web", &["10.0.0.64/28"], json!({ "disabled": true }))
        .await;
    site.has("a", &["10.0.0.64"]).await;
    site.vip("b", v4()).await;
    site.waits("b", &[], "pool_disabled").await;
    site.vip("c", at(&["10.0.0.70"])).await;
    site.waits("c", &[], "pool_disabled").await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.has("b", &["10.0.0.65"]).await;
    site.has("c", &["10.0.0.70"]).await;
}

#[tokio::test]
async fn a_pool_in_use_is_not_deleted_or_shrunk_unless_by_force_and_then_its_vips_ask_anew() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.vip("a", v4()).await;
    let shrunk = site.try_pool("web", &["10.0.0.72/29"], json!({}), PLAIN);
    let refused = shrunk.await.unwrap_err();
    assert!(refused.to_string().contains("10.0.0.64 (a)"), "{refused}");
    assert_eq!(
        site.delete_pool("web", false).await,
        Err("pool_in_use".into())
    );
    let forced = site.try_pool("web", &["10.0.0.72/29"], json!({}), FORCE);
    forced.await.unwrap();
    site.has("a", &["10.0.0.72"]).await;
    site.delete_pool("web", true).await.unwrap();
    site.waits("a", &[], "no_pool").await;
}

#[tokio::test]
async fn a_pool_is_expanded_renamed_and_split_without_renumbering() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/29"], json!({})).await;
    site.vip("a", v4()).await;
    site.vip("b", at(&["10.0.0.71"])).await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.pool("low", &["10.0.0.64/29"], json!({})).await;
    site.pool("high", &["10.0.0.70-10.0.0.79"], json!({})).await;
    site.delete_pool("web", false).await.unwrap();
    site.has("a", &["10.0.0.64"]).await;
    site.has("b", &["10.0.0.71"]).await;
}

#[tokio::test]
async fn pools_are_tried_by_priority_pinned_before_general_then_by_name() {
    let site = Site::new().await;
    let db = json!({ "selector": { "match_labels": { "app": "db" } } });
    site.pool("a", &["10.0.0.64"], json!({})).await;
    site.pool("b", &["10.0.0.65"], json!({})).await;
    site.pool("pinned", &["10.0.0.66"], db).await;
    site.pool("first", &["10.0.0.67"], json!({ "priority": -1 }))
        .await;
    let explicit = json!({ "auto_assign": false, "priority": -2 });
    site.pool("explicit", &["10.0.0.68"], explicit).await;
    let order = ["10.0.0.67", "10.0.0.66", "10.0.0.64", "10.0.0.65"];
    for (i, address) in order.iter().enumerate() {
        let name = format!("v{i}");
        site.labelled(&name, json!({ "app": "db" }), v4()).await;
        site.has(&name, &[address]).await;
    }
    site.vip("x", v4_and(json!({ "pool": "explicit" }))).await;
    site.has("x", &["10.0.0.68"]).await;
}

#[tokio::test]
async fn single_becomes_dual_and_keeps_the_first_and_dual_becomes_single_and_keeps_the_wanted() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28", "fd00::60/124"], json!({}))
        .await;
    for (families, wanted) in [
        ("ipv4", vec!["10.0.0.64"]),
        ("require_dual", vec!["10.0.0.64", "fd00::60"]),
        ("ipv6", vec!["fd00::60"]),
        ("prefer_dual", vec!["10.0.0.64", "fd00::60"]),
    ] {
        site.vip("a", json!({ "families": families })).await;
        site.has("a", &wanted).await;
    }
}

#[tokio::test]
async fn who_requires_both_families_waits_for_both_and_who_prefers_them_gets_the_second_later() {
    let site = Site::new().await;
    site.pool("four", &["10.0.0.64/28"], json!({})).await;
    site.vip("strict", json!({ "families": "require_dual" }))
        .await;
    site.waits("strict", &[], "no_pool").await;
    site.vip("easy", json!({ "families": "prefer_dual" })).await;
    site.has("easy", &["10.0.0.64"]).await;
    site.pool("six", &["fd00::60/124"], json!({})).await;
    site.has("strict", &["10.0.0.65", "fd00::60"]).await;
    site.has("easy", &["10.0.0.64", "fd00::61"]).await;
}

#[tokio::test]
async fn an_address_outside_of_every_pool_or_of_a_host_is_not_given() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.0/24"], json!({})).await;
    site.vip("a", at(&["10.9.9.9"])).await;
    site.waits("a", &[], "not_in_any_pool").await;
    site.vip("b", at(&["10.0.0.2"])).await;
    site.waits("b", &[], "host_address").await;
    site.vip("c", v4_and(json!({ "pool": "nothing" }))).await;
    site.waits("c", &[], "no_pool").await;
}

#[tokio::test]
async fn to_ask_again_for_what_one_has_changes_nothing() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    let first = site.vip("a", at(&["10.0.0.70"])).await;
    let second = site.vip("a", at(&["10.0.0.70"])).await;
    assert_eq!(first.revision, second.revision);
    site.has("a", &["10.0.0.70"]).await;
}

#[tokio::test]
async fn an_address_cools_down_and_whoever_returns_in_time_has_it_back() {
    let site = Site::new().await;
    let slow = json!({ "cooldown": "1h", "reclaim": true });
    site.pool("web", &["10.0.0.64/31"], slow).await;
    site.vip("a", v4()).await;
    site.delete("a").await;
    assert_eq!(site.counts("web", "ipv4").await, [2, 0, 1]);
    site.vip("b", at(&["10.0.0.64"])).await;
    site.waits("b", &[], "cooling_down").await;
    site.vip("a", v4()).await;
    site.has("a", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn what_waits_is_an_event_and_so_is_that_it_was_served() {
    let site = Site::new().await;
    site.vip("a", v4()).await;
    site.pool("web", &["10.0.0.64"], json!({})).await;
    let events = site.client.events().await.unwrap();
    let said: Vec<&str> = events.items.iter().map(|it| it.message.as_str()).collect();
    for wanted in [
        "VIP a waits: no pool hands out ipv4 addresses",
        "VIP a has all it asks for",
    ] {
        assert!(said.contains(&wanted), "{wanted}: {said:?}");
    }
}

#[tokio::test]
async fn a_dry_run_tells_which_vips_would_lose_what() {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.vip("a", v4()).await;
    let how = WriteOptions {
        dry_run: true,
        ..FORCE
    };
    let tried = site
        .try_pool("web", &["10.0.0.72/29"], json!({}), how)
        .await;
    let text = format!("{:?}", tried.unwrap());
    assert!(
        text.contains("10.0.0.64") && text.contains("10.0.0.72"),
        "{text}"
    );
    site.has("a", &["10.0.0.64"]).await;
}

#[tokio::test]
async fn an_address_that_another_host_has_is_not_announced_and_says_who_has_it_until_it_is_free() {
    let site = Site::new().await;
    let taken = "10.0.0.64".parse().unwrap();
    site.memory().take(taken, Some([2, 0, 0, 0, 0, 9]));
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.vip("a", v4_and(json!({ "addresses": ["10.0.0.64"] })))
        .await;
    site.vip("b", v4()).await;
    site.has("a", &["10.0.0.64"]).await;
    let conditions = async |name: &str| {
        let vip = site.client.get::<Vip>(name).await.unwrap();
        vip.status.addresses[0].conditions.clone()
    };
    let [condition] = &conditions("a").await[..] else {
        panic!("{:?}", conditions("a").await);
    };
    assert_eq!(condition.reason, "address_in_use");
    for part in ["02:00:00:00:00:09", "eth0 of n", "not announced"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    assert_eq!(conditions("b").await, [], "nobody has that one");
    let told = async |words: &str| {
        let events = site.client.events().await.unwrap();
        events
            .items
            .iter()
            .any(|event| event.message.contains(words))
    };
    assert!(told("another host has 10.0.0.64").await);
    site.memory().take(taken, None);
    assert_eq!(conditions("a").await, []);
    assert!(told("no other host has 10.0.0.64 any more").await);
}

#[tokio::test]
async fn a_vip_whose_chosen_address_another_host_has_is_given_another_and_its_pool_says_which_is_set_aside()
 {
    let site = Site::new().await;
    let taken = "10.0.0.64".parse().unwrap();
    site.memory().take(taken, Some([2, 0, 0, 0, 0, 9]));
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    site.vip("a", v4()).await;
    site.has("a", &["10.0.0.65"]).await;
    let pool = site.client.get::<Pool>("web").await.unwrap();
    let [condition] = &pool.status.conditions[..] else {
        panic!("{:?}", pool.status.conditions);
    };
    assert_eq!(condition.reason, "addresses_in_use");
    for part in ["10.0.0.64 until", "02:00:00:00:00:09", "set aside"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    let events = site.client.events().await.unwrap().items;
    let told = |event: &&vipd_api_types::Event| event.message.contains("VIP a is given another");
    assert_eq!(events.iter().filter(told).count(), 1);
}

#[tokio::test]
async fn a_vip_that_waits_says_since_when_whatever_the_reason_is() {
    let site = Site::new().await;
    site.vip("a", v4()).await;
    let since = async || {
        let vip = site.client.get::<Vip>("a").await.unwrap();
        let satisfied = vip.status.conditions.into_iter();
        let mut satisfied = satisfied.filter(|condition| condition.kind == "satisfied");
        satisfied.next().unwrap().since
    };
    let first = since().await.expect("it waits");
    site.pool("web", &["10.0.0.64/28"], json!({ "disabled": true }))
        .await;
    assert_eq!(since().await.as_ref(), Some(&first), "for another reason");
    site.pool("web", &["10.0.0.64/28"], json!({})).await;
    assert_eq!(since().await, None);
}
