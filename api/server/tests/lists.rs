//! Lists with selectors and in parts, through the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::reason;
use common::site::{Site, v4, v4_and};
use serde_json::json;
use vipd_api_types::{Node, Page, Pool, Vip};
use vipd_client::{Client, Selection, WriteOptions};
use vipd_core::command::Command;

fn by(labels: &str, fields: &str) -> Selection {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Selection {
        labels: some(labels),
        fields: some(fields),
    }
}

fn names(page: &Page<Vip>) -> Vec<&str> {
    page.items.iter().map(|vip| vip.name.as_str()).collect()
}

/// VIPs `a`, `b` of pool web, and `c` of pool db.
async fn three() -> Site {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.10-10.0.0.19"], json!({})).await;
    site.pool(
        "db",
        &["10.0.0.20-10.0.0.29"],
        json!({ "auto_assign": false }),
    )
    .await;
    site.labelled("a", json!({ "app": "web", "tier": "front" }), v4())
        .await;
    site.labelled(
        "b",
        json!({ "app": "web" }),
        v4_and(json!({ "pool": "web" })),
    )
    .await;
    site.labelled(
        "c",
        json!({ "app": "db" }),
        v4_and(json!({ "pool": "db", "namespace": "prod" })),
    )
    .await;
    site
}

#[tokio::test]
async fn label_selectors_are_those_of_kubernetes() {
    let site = three().await;
    for (selector, wanted) in [
        ("app=web", vec!["a", "b"]),
        ("app!=web", vec!["c"]),
        ("app in (web,db),!tier", vec!["b", "c"]),
        ("tier notin (back)", vec!["a", "b", "c"]),
        ("tier", vec!["a"]),
        ("vipd/name=c", vec!["c"]),
        ("vipd/namespace=prod", vec!["c"]),
        ("app=nothing", vec![]),
    ] {
        let found = site.client.select::<Vip>(&by(selector, "")).await.unwrap();
        assert_eq!(names(&found), wanted, "{selector}");
    }
}

#[tokio::test]
async fn field_selectors_look_at_what_is_shown() {
    let site = three().await;
    for (selector, wanted) in [
        ("spec.pool=web", vec!["b"]),
        ("spec.pool!=web", vec!["a", "c"]),
        ("metadata.name=a", vec!["a"]),
        ("name!=a,status.addresses.pool==web", vec!["b"]),
        ("status.addresses.address=10.0.0.20", vec!["c"]),
        ("spec.families=ipv4", vec!["a", "b", "c"]),
    ] {
        let found = site.client.select::<Vip>(&by("", selector)).await.unwrap();
        assert_eq!(names(&found), wanted, "{selector}");
    }
    let all = site.client.list::<Vip>().await.unwrap();
    let holder = all.items[0].status.addresses[0].holder.clone().unwrap();
    let held = site
        .client
        .select::<Vip>(&by("", &format!("status.holder={holder}")))
        .await
        .unwrap();
    assert!(names(&held).contains(&"a"));
    let both = by("app=web", "spec.pool=web");
    assert_eq!(
        names(&site.client.select::<Vip>(&both).await.unwrap()),
        ["b"]
    );
    let pools = site
        .client
        .select::<Pool>(&by("", "spec.auto_assign=false"))
        .await
        .unwrap();
    assert_eq!(pools.items.len(), 1);
    let up = site.client.select::<Node>(&by("", "status.up=true")).await;
    assert_eq!(up.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_selector_that_means_nothing_is_refused() {
    let site = three().await;
    for (labels, fields) in [
        ("app in (", ""),
        ("a b", ""),
        ("", "spec.colour=red"),
        ("", "spec.pool"),
        ("", "spec=1"),
        (&"a".repeat(5000), ""),
    ] {
        let refused = site.client.select::<Vip>(&by(labels, fields)).await;
        assert_eq!(reason(refused), "bad_selector", "{labels} {fields}");
    }
}

async fn in_parts(client: &Client, which: &Selection, limit: usize) -> Vec<Page<Vip>> {
    let mut pages: Vec<Page<Vip>> = Vec::new();
    loop {
        let next = pages.last().and_then(|page| page.next.clone());
        if !pages.is_empty() && next.is_none() {
            return pages;
        }
        let page = client.page::<Vip>(which, limit, next.as_deref()).await;
        pages.push(page.unwrap());
    }
}

#[tokio::test]
async fn a_list_in_parts_is_the_whole_list_at_one_revision() {
    let site = three().await;
    let whole = site.client.list::<Vip>().await.unwrap();
    for limit in 1..=4 {
        let parts = in_parts(&site.client, &Selection::default(), limit).await;
        let joined: Vec<&str> = parts.iter().flat_map(names).collect();
        assert_eq!(joined, ["a", "b", "c"], "limit {limit}");
        assert!(parts.iter().all(|part| part.revision == whole.revision));
        assert_eq!(
            parts.len(),
            3usize.div_ceil(limit),
            "no empty part at the end"
        );
    }
    let web = in_parts(&site.client, &by("app=web", ""), 1).await;
    assert_eq!(web.len(), 2);
}

#[tokio::test]
async fn a_list_in_parts_goes_on_while_others_write() {
    let site = three().await;
    let all = Selection::default();
    let first = site.client.page::<Vip>(&all, 1, None).await.unwrap();
    site.delete("a").await;
    site.vip("ab", v4()).await;
    site.vip("z", v4()).await;
    let mut found = names(&first)
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let mut next = first.next.clone();
    while let Some(token) = next {
        let page = site
            .client
            .page::<Vip>(&all, 1, Some(&token))
            .await
            .unwrap();
        assert_eq!(
            page.revision, first.revision,
            "a watch from here tells the rest"
        );
        found.extend(names(&page).into_iter().map(str::to_owned));
        next = page.next;
    }
    // What was there all the while is there once; what came or went may be.
    assert_eq!(found, ["a", "ab", "b", "c", "z"]);
}

#[tokio::test]
async fn a_list_is_not_gone_on_with_when_its_beginning_is_forgotten() {
    let site = three().await;
    let all = Selection::default();
    let first = site.client.page::<Vip>(&all, 1, None).await.unwrap();
    // The journal remembers so many changes.
    let change = |i: u32| Command::SetNode {
        node: "n2".parse().unwrap(),
        weight: None,
        labels: [("x".to_owned(), Some(i.to_string()))].into(),
        drained: None,
        expect: Default::default(),
    };
    for i in 0..33_000 {
        site.memory().apply(change(i)).unwrap();
    }
    let late = site
        .client
        .page::<Vip>(&all, 1, first.next.as_deref())
        .await;
    assert_eq!(reason(late), "continue_expired");
}

#[tokio::test]
async fn what_cannot_be_a_part_is_refused() {
    let site = three().await;
    let all = Selection::default();
    let first = site.client.page::<Vip>(&all, 1, None).await.unwrap();
    let token = first.next.as_deref();
    let web = by("app=web", "");
    let asks = [
        (&all, 1, Some("nonsense")),
        (&all, 1, Some("MSB4IHk")),
        (&web, 1, token),
    ];
    for (which, limit, next) in asks {
        let refused = site.client.page::<Vip>(which, limit, next).await;
        assert_eq!(reason(refused), "bad_continue");
    }
    let pools = site.client.page::<Pool>(&all, 1, token).await;
    assert_eq!(reason(pools), "bad_continue", "a token of another kind");
    for limit in [0, 10_001] {
        let refused = site.client.page::<Vip>(&all, limit, None).await;
        assert_eq!(reason(refused), "bad_query");
    }
}

#[tokio::test]
async fn a_patch_of_a_label_moves_an_object_in_and_out_of_a_selection() {
    let site = three().await;
    let how = WriteOptions::default();
    let patch = json!({ "labels": { "app": null } });
    site.client.patch::<Vip>("a", &patch, how).await.unwrap();
    let found = site.client.select::<Vip>(&by("app=web", "")).await.unwrap();
    assert_eq!(names(&found), ["b"]);
}
