//! Watches of collections, through the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::reason;
use common::site::{Site, v4, v4_and};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use vipd_api_types::{Node, Pool, Vip, Watched, WatchedKind};
use vipd_client::{Object, Selection, WatchStream, WriteOptions};
use vipd_core::command::Command;

/// The longest that a message may take.
const SOON: Duration = Duration::from_secs(10);

async fn said<T: Object>(stream: &mut WatchStream<T>) -> Watched<T> {
    let next = tokio::time::timeout(SOON, stream.next()).await;
    next.expect("nothing was said").unwrap().expect("it ended")
}

/// The next that is no bookmark: what happened to whom.
async fn change<T: Object>(stream: &mut WatchStream<T>) -> (WatchedKind, String) {
    loop {
        let said = said(stream).await;
        if said.kind != WatchedKind::Bookmark {
            return (said.kind, said.name.unwrap());
        }
    }
}

fn was(kind: WatchedKind, name: &str) -> (WatchedKind, String) {
    (kind, name.to_owned())
}

async fn site() -> Site {
    let site = Site::new().await;
    site.pool("web", &["10.0.0.10-10.0.0.19"], json!({})).await;
    site
}

fn labels(selector: &str) -> Selection {
    Selection {
        labels: Some(selector.to_owned()),
        fields: None,
    }
}

#[tokio::test]
async fn what_is_made_changed_and_deleted_is_told_with_the_object() {
    let site = site().await;
    let mut watch = site
        .client
        .watch::<Vip>(&Selection::default(), None)
        .await
        .unwrap();
    let first = said(&mut watch).await;
    assert_eq!(first.kind, WatchedKind::Bookmark, "it says where it begins");
    let www = site.vip("www", v4()).await;
    let added = said(&mut watch).await;
    assert_eq!(added.kind, WatchedKind::Added);
    // By the next entry its holder says that nobody else has its address.
    let entries = www.revision..=www.revision + 1;
    assert!(entries.contains(&added.revision), "{}", added.revision);
    let object = added.object.unwrap();
    assert_eq!(
        object.status.addresses[0].holder,
        www.status.addresses[0].holder
    );
    let label = json!({ "labels": { "app": "web" } });
    let how = WriteOptions::default();
    site.client.patch::<Vip>("www", &label, how).await.unwrap();
    let modified = said(&mut watch).await;
    assert_eq!(modified.kind, WatchedKind::Modified);
    assert_eq!(modified.object.unwrap().labels["app"], "web");
    site.delete("www").await;
    let deleted = said(&mut watch).await;
    assert_eq!((deleted.kind, deleted.object), (WatchedKind::Deleted, None));
    assert_eq!(deleted.name.as_deref(), Some("www"));
}

#[tokio::test]
async fn a_change_of_holder_is_a_change_of_the_vip_its_nodes_and_no_other() {
    let site = site().await;
    let www = site.vip("www", v4()).await;
    site.vip("other", v4()).await;
    let all = Selection::default();
    let mut vips = site.client.watch::<Vip>(&all, None).await.unwrap();
    let mut nodes = site.client.watch::<Node>(&all, None).await.unwrap();
    let holder = www.status.addresses[0].holder.clone().unwrap();
    let to = if holder == "n3" { "n2" } else { "n3" };
    let to = vipd_api_types::MoveRequest { to: to.to_owned() };
    let how = WriteOptions::default();
    said(&mut vips).await;
    said(&mut nodes).await;
    site.client.move_vip("www", &to, how).await.unwrap();
    loop {
        let told = said(&mut vips).await;
        assert_eq!(told.name.as_deref(), Some("www"));
        if told.object.unwrap().status.addresses[0].holder == Some(to.to.clone()) {
            break;
        }
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 2 {
        told.insert(change(&mut nodes).await.1);
    }
    assert!(told.contains(&holder) && told.contains(&to.to), "{told:?}");
}

#[tokio::test]
async fn a_pool_is_told_when_its_addresses_are_taken_and_freed() {
    let site = site().await;
    let mut watch = site
        .client
        .watch::<Pool>(&Selection::default(), None)
        .await
        .unwrap();
    said(&mut watch).await;
    site.vip("www", v4()).await;
    let used = said(&mut watch).await.object.unwrap().status.families;
    assert_eq!(used.ipv4.unwrap().used, 1);
    site.delete("www").await;
    loop {
        let families = said(&mut watch).await.object.unwrap().status.families;
        if families.ipv4.unwrap().used == 0 {
            break;
        }
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_a_revision_and_misses_nothing() {
    let site = site().await;
    let list = site.client.list::<Vip>().await.unwrap();
    site.vip("a", v4()).await;
    site.vip("b", v4()).await;
    site.delete("b").await;
    site.vip("c", v4()).await;
    let all = Selection::default();
    let mut watch = site
        .client
        .watch::<Vip>(&all, Some(list.revision))
        .await
        .unwrap();
    assert_eq!(change(&mut watch).await, was(WatchedKind::Added, "a"));
    let (kind, name) = change(&mut watch).await;
    assert_eq!(
        (kind, name.as_str()),
        (WatchedKind::Added, "c"),
        "b came and went"
    );
    let now = site.client.list::<Vip>().await.unwrap().revision;
    site.delete("a").await;
    let mut later = site.client.watch::<Vip>(&all, Some(now)).await.unwrap();
    assert_eq!(change(&mut later).await, was(WatchedKind::Deleted, "a"));
}

#[tokio::test]
async fn what_went_and_came_and_went_again_while_nobody_watched_is_gone() {
    let site = site().await;
    let known = site.vip("www", v4()).await.revision;
    for _ in 0..2 {
        site.delete("www").await;
        site.vip("www", v4()).await;
    }
    site.delete("www").await;
    let all = Selection::default();
    let watch = site.client.watch::<Vip>(&all, Some(known)).await;
    let told = change(&mut watch.unwrap()).await;
    assert_eq!(told, was(WatchedKind::Deleted, "www"));
}

#[tokio::test]
async fn an_object_that_ceases_to_match_is_a_delete_and_one_that_never_did_is_nothing() {
    let site = site().await;
    let how = WriteOptions::default();
    site.labelled("www", json!({ "app": "web" }), v4()).await;
    let mut watch = site
        .client
        .watch::<Vip>(&labels("app=web"), None)
        .await
        .unwrap();
    said(&mut watch).await;
    site.labelled("db", json!({ "app": "db" }), v4()).await;
    site.delete("db").await;
    let set = |value: &str| json!({ "labels": { "app": value } });
    site.client
        .patch::<Vip>("www", &set("old"), how)
        .await
        .unwrap();
    assert_eq!(change(&mut watch).await, was(WatchedKind::Deleted, "www"));
    site.client
        .patch::<Vip>("www", &json!({ "labels": { "x": "y" } }), how)
        .await
        .unwrap();
    site.client
        .patch::<Vip>("www", &set("web"), how)
        .await
        .unwrap();
    assert_eq!(change(&mut watch).await, was(WatchedKind::Added, "www"));
    site.delete("www").await;
    assert_eq!(change(&mut watch).await, was(WatchedKind::Deleted, "www"));
}

#[tokio::test]
async fn a_field_selector_follows_what_becomes_of_an_object() {
    let site = site().await;
    let fields = Selection {
        labels: None,
        fields: Some("spec.pool=web".to_owned()),
    };
    let mut watch = site.client.watch::<Vip>(&fields, None).await.unwrap();
    said(&mut watch).await;
    site.vip("any", v4()).await;
    site.vip("www", v4_and(json!({ "pool": "web" }))).await;
    assert_eq!(change(&mut watch).await, was(WatchedKind::Added, "www"));
}

#[tokio::test]
async fn a_revision_that_is_forgotten_or_never_was_is_refused() {
    let site = site().await;
    let all = Selection::default();
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
    let old = site.client.watch::<Vip>(&all, Some(1)).await;
    assert_eq!(reason(old), "revision_expired");
    let never = site.client.watch::<Vip>(&all, Some(u64::MAX)).await;
    assert_eq!(reason(never), "bad_revision");
}

/// What a raw request is answered with, until `enough`.
async fn raw(site: &Site, request: &str, enough: impl Fn(&str) -> bool) -> String {
    let mut stream = UnixStream::connect(site.socket()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    let read = async {
        while !enough(&answer) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "ended early: {answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    tokio::time::timeout(SOON, read)
        .await
        .expect("not enough was said");
    answer
}

#[tokio::test]
async fn messages_are_server_sent_events_whose_id_takes_a_watch_up_again() {
    let site = site().await;
    let from = site.client.list::<Vip>().await.unwrap().revision;
    let www = site.vip("www", v4()).await;
    let request =
        format!("GET /v1/vips?watch=1 HTTP/1.1\r\nhost: x\r\nlast-event-id: {from}\r\n\r\n");
    let answer = raw(&site, &request, |answer| answer.contains("event: added")).await;
    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    assert!(answer.contains(&format!("id: {from}\n")), "{answer}");
    // By the entry after it its holder says that nobody else has its address.
    let ids = [www.revision, www.revision + 1].map(|id| format!("id: {id}\n"));
    assert!(ids.iter().any(|id| answer.contains(id)), "{answer}");
    let bad = "GET /v1/vips?watch=1 HTTP/1.1\r\nhost: x\r\nlast-event-id: x\r\n\r\n";
    let answer = raw(&site, bad, |answer| answer.contains("}")).await;
    assert!(answer.contains("bad_revision"), "{answer}");
    let paged = "GET /v1/vips?watch=1&limit=3 HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(&site, paged, |answer| answer.contains("}")).await;
    assert!(answer.contains("bad_query"), "{answer}");
}

#[tokio::test]
async fn only_the_last_message_of_an_entry_can_be_gone_on_from() {
    let site = site().await;
    site.vip("a", v4_and(json!({ "group": "g" }))).await;
    let b = site.vip("b", v4_and(json!({ "group": "g" }))).await;
    let holder = b.status.addresses[0].holder.clone().unwrap();
    let from = site.client.list::<Vip>().await.unwrap().revision;
    // One entry, which changes both.
    site.client
        .drain(&holder, true, WriteOptions::default())
        .await
        .unwrap();
    let request = format!("GET /v1/vips?watch=1&revision={from} HTTP/1.1\r\nhost: x\r\n\r\n");
    let both = |answer: &str| answer.matches("event: modified").count() >= 2;
    let answer = raw(&site, &request, both).await;
    let changes: Vec<&str> = answer
        .split("\n\n")
        .filter(|message| message.contains("event: modified"))
        .collect();
    let revision = |message: &str| {
        let data = message
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap();
        serde_json::from_str::<Watched<Vip>>(data).unwrap().revision
    };
    let ids: Vec<bool> = changes
        .iter()
        .map(|message| message.contains("id: "))
        .collect();
    if revision(changes[0]) == revision(changes[1]) {
        assert!(
            !ids[0],
            "going on from there would lose the other: {answer}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_to_list_anew() {
    let site = site().await;
    let mut watch = site
        .client
        .watch::<Node>(&Selection::default(), None)
        .await
        .unwrap();
    said(&mut watch).await;
    // More than the journal holds, while the reader cannot be shown any of it: the state is locked by one look.
    let memory = site.memory();
    let change = |i: u32| Command::SetNode {
        node: "n2".parse().unwrap(),
        weight: None,
        labels: [("x".to_owned(), Some(i.to_string()))].into(),
        drained: None,
        expect: Default::default(),
    };
    // On this one thread nobody else runs in between.
    for i in 0..33_000 {
        memory.apply(change(i)).unwrap();
    }
    let ended = loop {
        match tokio::time::timeout(SOON, watch.next())
            .await
            .expect("nothing was said")
        {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(reason(ended), "revision_expired");
}

#[tokio::test]
async fn a_condition_on_what_no_entry_changes_is_refused_in_a_watch_and_taken_in_a_list() {
    let site = Site::new().await;
    for fields in [
        "status.addresses.answering=true",
        "status.addresses.runner_up=n2",
    ] {
        let which = Selection {
            fields: Some(fields.to_owned()),
            ..Selection::default()
        };
        site.client.select::<Vip>(&which).await.unwrap();
        let refused = site.client.watch::<Vip>(&which, None).await.unwrap_err();
        assert_eq!(refused.reason(), Some("bad_selector"), "{refused}");
        assert!(
            refused.to_string().contains("a watch is not told"),
            "{refused}"
        );
    }
}
