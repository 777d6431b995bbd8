//! What still works without a quorum, and what a slow client or a lagging node costs.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Node, pool, reason, web_and_www};
use vipd_api_types::{AddMember, JoinTokenRequest, MemberRole, MoveRequest, Pool, Vip};
use vipd_client::{Settings, WriteOptions};
use vipd_core::command::Command;
use vipd_core::node::Role;
use vipd_core::time::Millis;

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};

#[tokio::test]
async fn without_a_quorum_only_local_reads_are_answered() {
    let node = Node::start().await;
    web_and_www(&node.client()).await;
    node.memory.set_quorum(false);
    let client = node.client();
    assert_eq!(reason(client.list::<Vip>().await), "no_quorum");
    assert_eq!(
        reason(client.put::<Pool>("b", &pool(&["10.0.1.0/28"]), NOW).await),
        "no_quorum"
    );
    let local = node.client_with(Settings {
        local_reads: true,
        ..Settings::default()
    });
    assert_eq!(
        local.list::<Vip>().await.unwrap().items[0].status.addresses[0].answering,
        Some(false)
    );
    let raw = async |query: &str| {
        let ask =
            format!("GET /v1/cluster{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        common::http_unix(&node.socket, &ask).await
    };
    let default = raw("").await;
    assert!(
        default.starts_with("HTTP/1.1 503") && default.contains("no_quorum"),
        "{default}"
    );
    assert!(raw("?consistency=local").await.starts_with("HTTP/1.1 200"));
    let cluster = client.cluster().await.unwrap();
    assert!(!cluster.quorum.ok && cluster.leader.is_none());
    assert_eq!((cluster.quorum.voters, cluster.quorum.needed), (3, 2));
    assert_eq!(cluster.conditions[0].reason, "no_quorum");
    let ready = client.ready().await.unwrap();
    assert!(!ready.ok && ready.problems.len() == 2, "{ready:?}");
}

/// A fourth node, without a vote.
fn agent(node: &Node) {
    let token = [4; 32];
    let valid = Command::PutJoinToken {
        token,
        role: Role::Agent,
        expires: Millis(u64::MAX),
        uses: 1,
    };
    let join = Command::Join {
        token,
        name: "n4".parse().unwrap(),
        peer: "10.0.0.4:7400".parse().unwrap(),
        beat_key: [4; 32],
    };
    for command in [valid, join] {
        node.memory.apply(command).unwrap();
    }
}

fn member(name: &str) -> AddMember {
    AddMember {
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn members_are_listed_and_removed_and_an_agent_hears_how_it_gets_a_vote() {
    let node = Node::start().await;
    let client = node.client();
    let cluster = client.cluster().await.unwrap();
    assert_eq!(
        cluster
            .members
            .iter()
            .map(|member| member.name.as_str())
            .collect::<Vec<_>>(),
        ["n1", "n2", "n3"]
    );
    assert_eq!(cluster.leader.as_deref(), Some("n1"));
    assert!(
        cluster
            .members
            .iter()
            .all(|member| member.voting && member.up)
    );
    agent(&node);
    let refused = client.add_member(&member("n4")).await.unwrap_err();
    assert_eq!(refused.reason(), Some("refused"));
    assert!(
        refused.to_string().contains("n4 joined as agent"),
        "{refused}"
    );
    assert!(
        refused.next().contains("--role voter"),
        "{}",
        refused.next()
    );
    let members = client.cluster().await.unwrap();
    assert!(!members.members[3].voting && members.quorum.voters == 3);
    client.remove_member("n4").await.unwrap();
    let smaller = client.remove_member("n3").await.unwrap();
    assert_eq!((smaller.members.len(), smaller.quorum.voters), (2, 2));
    assert!(client.remove_member("n3").await.unwrap_err().is_not_found());
    let gone = client.add_member(&member("n3")).await.unwrap_err();
    assert!(gone.is_not_found());
    let votes = client.add_member(&member("n2")).await.unwrap();
    assert_eq!(votes.quorum.voters, 2);
    assert!(client.snapshot().await.unwrap().index > 0);
}

#[tokio::test]
async fn join_tokens_come_with_the_command_to_run() {
    let node = Node::start().await;
    let client = node.client();
    let request = JoinTokenRequest {
        role: MemberRole::Agent,
        ttl_seconds: 600,
        uses: 3,
    };
    let token = client.join_token(&request).await.unwrap();
    assert!(token.command.contains("vipd join") && token.command.contains(&token.token));
    for bad in [
        JoinTokenRequest {
            ttl_seconds: 0,
            ..request.clone()
        },
        JoinTokenRequest { uses: 0, ..request },
    ] {
        assert_eq!(reason(client.join_token(&bad).await), "invalid");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody() {
    use tokio::io::AsyncWriteExt;
    let node = Node::start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = tokio::net::UnixStream::connect(&node.socket).await.unwrap();
        stream
            .write_all(b"PUT /v1/pools/web HTTP/1.1\r\ncontent-length: 100\r\n")
            .await
            .unwrap();
        silent.push(stream);
    }
    let mut handshakes = Vec::new();
    for _ in 0..20 {
        handshakes.push(tokio::net::TcpStream::connect(node.tls).await.unwrap());
    }
    let answered = tokio::time::timeout(Duration::from_secs(5), node.client().list::<Pool>()).await;
    answered.expect("answered while others dawdle").unwrap();
    assert_eq!(
        reason(node.tls_client(None).list::<Pool>().await),
        "no_token"
    );
}

#[tokio::test]
async fn stopping_ends_streams_and_listeners_soon() {
    let node = Node::start().await;
    let client = node.client();
    let mut events = client.watch_events(0).await.unwrap();
    node.stop.cancel();
    let ended = async { while let Ok(Some(_)) = events.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("the stream ends");
}

#[tokio::test]
async fn a_holder_that_does_not_let_go_is_shown_as_such() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    node.memory.set_prompt(false);
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
    let address = client
        .get::<Vip>("www")
        .await
        .unwrap()
        .status
        .addresses
        .remove(0);
    assert_eq!(
        address.holder.as_deref(),
        Some("n1"),
        "never two: it stays until it is released"
    );
    assert_eq!(address.conditions[0].reason, "moved");
}
