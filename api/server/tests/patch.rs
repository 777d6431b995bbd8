//! Merge patches (RFC 7396) through the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, done, reason, web_and_www};
use serde_json::{Value, json};
use vipd_api_types::{Node as ApiNode, Policy, Pool, Vip};
use vipd_client::{Client, WriteOptions, Written};

const DO: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};

async fn patch_vip(client: &Client, patch: Value) -> Vip {
    done(client.patch::<Vip>("www", &patch, DO).await)
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_takes_away() {
    let node = Node::start().await;
    let client = node.client();
    let (_, www) = web_and_www(&client).await;
    let patched = patch_vip(
        &client,
        json!({ "labels": { "app": "web", "tier": "front" }, "spec": { "group": "gw", "failback": "always" } }),
    )
    .await;
    assert_eq!(patched.spec.group.as_deref(), Some("gw"));
    assert_eq!(
        patched.spec.families, www.spec.families,
        "left out, so it stays"
    );
    assert_eq!(patched.status.addresses, {
        let mut same = www.status.addresses.clone();
        for (same, now) in same.iter_mut().zip(&patched.status.addresses) {
            same.announced = now.announced;
        }
        same
    });
    let patched = patch_vip(
        &client,
        json!({ "labels": { "tier": null }, "spec": { "group": null, "failback": null } }),
    )
    .await;
    assert_eq!(patched.spec.group, None);
    assert_eq!(patched.spec.failback, www.spec.failback);
    assert_eq!(
        patched.labels.keys().collect::<Vec<_>>(),
        ["app"],
        "the other label stays"
    );
    let same = patch_vip(&client, json!({})).await;
    assert_eq!(same.revision, patched.revision, "nothing was asked");
}

#[tokio::test]
async fn a_list_in_a_patch_replaces_the_whole_list() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let wider =
        json!({ "spec": { "blocks": [{ "cidr": "10.0.0.0/24" }, { "cidr": "fd00::/64" }] } });
    let web = done(client.patch::<Pool>("web", &wider, DO).await);
    let blocks: Vec<_> = web
        .spec
        .blocks
        .iter()
        .map(|block| block.to_short())
        .collect();
    assert_eq!(blocks, ["10.0.0.0/24", "fd00::/64"]);
    // As a put of the same: what is handed out must stay within.
    let away = json!({ "spec": { "blocks": [{ "cidr": "10.9.0.0/24" }] } });
    assert_eq!(
        reason(client.patch::<Pool>("web", &away, DO).await),
        "pool_in_use"
    );
    let by_force = WriteOptions { force: true, ..DO };
    let web = done(client.patch::<Pool>("web", &away, by_force).await);
    assert_eq!(web.status.families.ipv4.unwrap().used, 0);
}

#[tokio::test]
async fn what_comes_of_a_patch_is_judged_as_if_it_had_been_put() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    for (patch, wanted) in [
        (json!({ "spec": { "colour": "red" } }), "unknown_field"),
        (json!({ "spec": { "colour": null } }), "unknown_field"),
        (json!({ "metadata": {} }), "unknown_field"),
        (json!({ "spec": { "families": "both" } }), "bad_body"),
        (json!({ "spec": [] }), "bad_body"),
        (json!({ "spec": { "addresses": ["nowhere"] } }), "invalid"),
        (json!({ "name": "other" }), "name_mismatch"),
        (json!([]), "bad_body"),
        (json!(null), "bad_body"),
        (json!({ "labels": { "a": 1 } }), "bad_body"),
    ] {
        assert_eq!(
            reason(client.patch::<Vip>("www", &patch, DO).await),
            wanted,
            "{patch}"
        );
    }
    let none = client.patch::<Vip>("nobody", &json!({}), DO).await;
    assert_eq!(reason(none), "not_found");
    // What carries the fields that are read only can be a patch, too.
    let www = client.get::<Vip>("www").await.unwrap();
    let same = done(client.patch::<Vip>("www", &www, DO).await);
    assert_eq!(same.revision, www.revision);
}

#[tokio::test]
async fn patch_by_patch_an_object_grows_no_greater_than_a_put_may_make_it() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let labels = |from: u32| {
        let labels = (from..from + 40).map(|n| (format!("k{n}"), json!("v")));
        json!({ "labels": labels.collect::<serde_json::Map<_, _>>() })
    };
    patch_vip(&client, labels(0)).await;
    let refused = client.patch::<Vip>("www", &labels(40), DO).await;
    assert_eq!(reason(refused), "too_many");
}

#[tokio::test]
async fn a_patch_with_if_match_is_refused_after_another_change_and_dry_run_changes_nothing() {
    let node = Node::start().await;
    let client = node.client();
    let (_, www) = web_and_www(&client).await;
    let label = |value: &str| json!({ "labels": { "app": value } });
    let tried = WriteOptions {
        dry_run: true,
        ..DO
    };
    match client
        .patch::<Vip>("www", &label("a"), tried)
        .await
        .unwrap()
    {
        Written::Tried(tried) => assert_eq!(tried.object.unwrap().labels["app"], "a"),
        Written::Done(_) => panic!("a dry run was carried out"),
    }
    assert!(client.get::<Vip>("www").await.unwrap().labels.is_empty());
    let at = |revision| WriteOptions {
        if_revision: Some(revision),
        ..DO
    };
    done(
        client
            .patch::<Vip>("www", &label("a"), at(www.revision))
            .await,
    );
    let stale = client
        .patch::<Vip>("www", &label("b"), at(www.revision))
        .await;
    assert_eq!(reason(stale), "revision_mismatch");
    assert_eq!(client.get::<Vip>("www").await.unwrap().labels["app"], "a");
}

/// As many as an object may have labels.
const MANY: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_of_different_fields_at_the_same_time_all_count() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let patches = (0..MANY).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            let patch = json!({ "labels": { format!("l{i}"): "x" } });
            done(client.patch::<Vip>("www", &patch, DO).await);
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        patch.await.unwrap();
    }
    assert_eq!(client.get::<Vip>("www").await.unwrap().labels.len(), MANY);
}

#[tokio::test]
async fn policies_and_nodes_are_patched_the_same_way_and_null_resets_a_node() {
    let node = Node::start().await;
    let client = node.client();
    let edge = json!({ "name": "edge", "spec": { "interfaces": ["^eth0$"] } });
    done(client.create::<Policy>(&edge, DO).await);
    let patch = json!({ "spec": { "vip_selector": { "match_labels": { "app": "web" } } } });
    let edge = done(client.patch::<Policy>("edge", &patch, DO).await);
    assert_eq!(edge.spec.interfaces, ["^eth0$"]);
    assert_eq!(edge.spec.vip_selector.match_labels["app"], "web");

    let set =
        json!({ "spec": { "labels": { "rack": "a", "row": "1" }, "weight": 7, "drained": true } });
    let n2 = done(client.patch::<ApiNode>("n2", &set, DO).await);
    assert_eq!((n2.spec.weight, n2.spec.drained), (7, true));
    let one = json!({ "spec": { "labels": { "row": null }, "weight": null } });
    let n2 = done(client.patch::<ApiNode>("n2", &one, DO).await);
    assert_eq!((n2.spec.weight, n2.spec.drained), (100, true));
    assert_eq!(n2.spec.labels.keys().collect::<Vec<_>>(), ["rack"]);
    let all = done(
        client
            .patch::<ApiNode>("n2", &json!({ "spec": null }), DO)
            .await,
    );
    assert!(!all.spec.drained && all.spec.labels.is_empty());
    let unknown = json!({ "spec": { "colour": 1 } });
    assert_eq!(
        reason(client.patch::<ApiNode>("n2", &unknown, DO).await),
        "unknown_field"
    );
}
