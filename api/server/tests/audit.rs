//! Who did it: in the events, whichever way he came.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, done, pool, reason, vip, web_and_www};
use vipd_api_types::{
    Access, Event, EventKind, Families, JoinTokenRequest, MoveRequest, Pool, TokenRequest, Vip,
};
use vipd_client::{Client, WriteOptions};
use vipd_core::asker::{Asker, TokenId, Who};
use vipd_core::command::{Command, Proposal};
use vipd_core::id::{NodeId, Revision};
use vipd_core::rejection::Rejection;
use vipd_core::state::State;
use vipd_core::time::Millis;

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};

fn me() -> String {
    format!(
        "uid/{}",
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
    )
}

/// The last event with these words in its message, waited for.
async fn told(client: &Client, words: &str) -> Event {
    for _ in 0..500 {
        let events = client.events().await.unwrap().items;
        if let Some(event) = events
            .into_iter()
            .rev()
            .find(|event| event.message.contains(words))
        {
            return event;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no event says {words:?} within 5 s");
}

#[tokio::test]
async fn every_write_is_an_event_with_who_asked_for_it_and_where() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let secret = node.token("ci", Access::Write).await;
    let ci = node.tls_client(Some(&secret));
    done(ci.put::<Pool>("more", &pool(&["10.0.1.0/28"]), NOW).await);
    done(
        ci.move_vip(
            "www",
            &MoveRequest {
                to: "n3".to_owned(),
            },
            NOW,
        )
        .await,
    );
    ci.rebalance(false).await.unwrap();
    ci.drain("n2", true, NOW).await.unwrap();
    client
        .join_token(&JoinTokenRequest::default())
        .await
        .unwrap();
    client.remove_member("n2").await.unwrap();
    client.delete_token("ci").await.unwrap();
    for (words, who) in [
        ("pool web set", me().as_str()),
        ("VIP www set", &me()),
        ("10.0.0.10 allocated to VIP www", &me()),
        ("token ci made, allows write, for ever", &me()),
        ("pool more set", "token/ci"),
        ("VIP www is to move to node n3", "token/ci"),
        ("balance asked for", "token/ci"),
        ("drained", "token/ci"),
        ("join token made, for 1 as voter", &me()),
        ("removed", &me()),
        ("token ci revoked", &me()),
    ] {
        let event = told(&client, words).await;
        assert_eq!(
            (event.who.as_deref(), event.via.as_deref()),
            (Some(who), Some("n1")),
            "{event:?}"
        );
    }
    let events = serde_json::to_string(&client.events().await.unwrap()).unwrap();
    assert!(
        !events.contains(&secret) && !events.contains("vipd_api_"),
        "{events}"
    );
    let up = told(&client, "node n2 (3) up").await;
    assert_eq!(
        (up.who, up.via),
        (None, None),
        "a node's own doing is nobody's"
    );
}

#[tokio::test]
async fn what_a_token_does_not_allow_is_an_event_but_never_more_than_a_few_a_minute() {
    let node = Node::start().await;
    let reader = node.tls_client(Some(&node.token("looker", Access::Read).await));
    for _ in 0..40 {
        assert_eq!(
            reason(reader.put::<Pool>("web", &pool(&["10.0.0.1"]), NOW).await),
            "forbidden"
        );
    }
    let event = told(
        &node.client(),
        "refused PUT /v1/pools/web: the token allows read, this needs write",
    )
    .await;
    assert_eq!(
        (event.kind, event.object.as_str()),
        (EventKind::Access, "node/n1")
    );
    assert_eq!(
        (event.who.as_deref(), event.via.as_deref()),
        (Some("token/looker"), Some("n1"))
    );
    let events = node.client().events().await.unwrap().items;
    let refused = events
        .iter()
        .filter(|event| event.message.starts_with("node n1: refused"))
        .count();
    assert!((1..=6).contains(&refused), "{refused}");
    let stranger = node.tls_client(Some("vipd_api_guess"));
    assert_eq!(reason(stranger.list::<Pool>().await), "bad_token");
    assert_eq!(
        node.client().events().await.unwrap().items.len(),
        events.len()
    );
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let node = Node::start().await;
    let client = node.client();
    let looker = node.tls_client(Some(&node.token("looker", Access::Read).await));
    let mut stream = looker.watch_events(0).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    client.delete_token("looker").await.unwrap();
    let drained = async {
        while let Ok(Some(event)) = stream.next().await {
            assert!(!event.message.contains("looker revoked"), "{event:?}");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), drained)
        .await
        .expect("it ends");
}

/// What a node that lags lets in, the log refuses: only there it is known what came first.
#[tokio::test]
async fn what_is_written_with_a_token_that_the_log_has_revoked_is_refused_whoever_let_it_in() {
    let node = Node::start().await;
    let request = TokenRequest {
        name: "ci".to_owned(),
        access: Access::Admin,
        ttl_seconds: None,
    };
    node.client().create_token(&request).await.unwrap();
    let mut state = {
        use vipd_api::Control as _;
        node.memory.read(State::clone)
    };
    let by = |name: &str| {
        Some(Asker {
            node: NodeId(1),
            who: Who::Token {
                token: TokenId {
                    name: name.parse().unwrap(),
                    made: Revision::default(),
                },
            },
        })
    };
    let revoke = |name: &str| Command::DeleteApiToken {
        name: name.parse().unwrap(),
    };
    let mut apply = |command, by| {
        let index = state.applied() + 1;
        state.apply(
            index,
            &Proposal {
                at: Millis(1),
                command,
                by,
            },
        )
    };
    apply(revoke("ci"), by("ci")).unwrap();
    let refused = apply(Command::Rebalance, by("ci")).unwrap_err();
    assert!(
        matches!(&refused, Rejection::Revoked { token } if token.as_str() == "ci"),
        "{refused}"
    );
    assert_eq!(refused.reason(), "token_revoked");
}

#[tokio::test]
async fn a_dry_run_and_a_write_that_changes_nothing_are_no_events() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let before = client.events().await.unwrap().items.len();
    let dry = WriteOptions {
        dry_run: true,
        ..NOW
    };
    client
        .put::<Vip>("more", &vip(Families::Ipv4), dry)
        .await
        .unwrap();
    done(
        client
            .put::<Vip>("www", &vip(Families::RequireDual), NOW)
            .await,
    );
    assert_eq!(client.events().await.unwrap().items.len(), before);
}
