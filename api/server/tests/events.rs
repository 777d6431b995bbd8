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
