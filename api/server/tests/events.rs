//! Events: what happened, and what happens.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Node, web_and_www};
use vipd_api_types::{Event, EventKind, MoveRequest};
use vipd_client::{EventStream, WriteOptions};

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};

async fn next(events: &mut EventStream) -> Event {
    tokio::time::timeout(Duration::from_secs(5), events.next())
        .await
        .expect("an event")
        .unwrap()
        .expect("no end")
}

#[tokio::test]
async fn a_change_of_holder_is_told_with_names_and_cause() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    client
        .move_vip(
            "www",
            &MoveRequest {
                to: "n2".to_owned(),
            },
            NOW,
        )
        .await
        .unwrap();
    let events = client.events().await.unwrap().items;
    let moved: Vec<_> = events
        .iter()
        .filter(|event| event.message.contains("n1 -> n2"))
        .collect();
    assert_eq!(moved.len(), 2, "one for each address: {events:?}");
    assert_eq!(
        (moved[0].kind, moved[0].object.as_str()),
        (EventKind::Holder, "vip/www")
    );
    assert!(
        moved[0].message.contains("moved by the operator"),
        "{}",
        moved[0].message
    );
    assert!(events.windows(2).all(|two| two[0].seq + 1 == two[1].seq));
}

#[tokio::test]
async fn a_watch_first_repeats_and_then_follows() {
    let node = Node::start().await;
    let client = node.client();
    let known = client.events().await.unwrap().items;
    let mut events = client.watch_events(0).await.unwrap();
    for event in &known {
        assert_eq!(next(&mut events).await, *event);
    }
    web_and_www(&client).await;
    let last = known.last().unwrap().seq;
    assert_eq!(next(&mut events).await.seq, last + 1);
    let mut later = client.watch_events(last).await.unwrap();
    let first = next(&mut later).await;
    assert_eq!((first.seq, first.object.as_str()), (last + 1, "pool/web"));
}

/// What is told of a raw watch that goes on after an event: the first lines of its answer.
async fn goes_on_after(node: &Node, id: u64) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(&node.socket).await.unwrap();
    let head = format!(
        "GET /v1/events?watch=1&after=0 HTTP/1.1\r\nhost: x\r\nlast-event-id: {id}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("data:") && !answer.contains("\"next\"") {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).await.unwrap();
        assert!(n > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&some[..n]));
    }
    answer
}

#[tokio::test]
async fn a_watch_goes_on_after_the_last_event_or_says_that_some_are_forgotten() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let last = client.events().await.unwrap().items.last().unwrap().seq;
    let answer = goes_on_after(&node, last - 1).await;
    assert!(answer.contains(&format!("id: {last}\n")), "{answer}");

    let beyond = goes_on_after(&node, last + 1).await;
    assert!(beyond.starts_with("HTTP/1.1 400"), "{beyond}");

    // One that was there when they were forgotten is told so, and its stream ends.
    let mut slow = client.watch_events(last).await.unwrap();
    let rebalance = || {
        let command = vipd_core::command::Command::Rebalance;
        node.memory.apply(command).unwrap();
    };
    (0..1100).for_each(|_| rebalance());
    let told = tokio::time::timeout(Duration::from_secs(5), slow.next()).await;
    assert_eq!(told.unwrap().unwrap_err().reason(), Some("events_expired"));
    assert!(slow.next().await.unwrap().is_none());

    let answer = goes_on_after(&node, last).await;
    assert!(answer.starts_with("HTTP/1.1 410"), "{answer}");
    assert!(answer.contains("events_expired"), "{answer}");
    let begin_anew = client.watch_events(0).await;
    assert!(begin_anew.unwrap().next().await.unwrap().is_some());
}
