//! A dry run answers what would be, by the same rules, and changes nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, pool, reason, vip, vip_at, web_and_www};
use vipd_api_types::{Access, ChangeKind, DryRun, Families, MoveRequest, Pool, TokenRequest, Vip};
use vipd_client::{Error, RestoreOptions, WriteOptions, Written};

const TRY: WriteOptions = WriteOptions {
    dry_run: true,
    if_revision: None,
    strict: false,
    force: false,
};

fn tried<T: std::fmt::Debug>(written: Result<Written<T>, Error>) -> DryRun<T> {
    match written.unwrap() {
        Written::Tried(tried) => tried,
        Written::Done(done) => panic!("was carried out: {done:?}"),
    }
}

#[tokio::test]
async fn it_says_which_addresses_would_be_given_taken_and_moved() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let before = (
        client.list::<Vip>().await.unwrap(),
        client.list::<Pool>().await.unwrap(),
    );

    let given = tried(
        client
            .put::<Vip>("more", &vip(Families::RequireDual), TRY)
            .await,
    );
    assert_eq!(given.changes.len(), 2);
    assert!(
        given
            .changes
            .iter()
            .all(|change| change.kind == ChangeKind::Allocated && change.to.is_some())
    );
    assert_eq!(
        given.object.unwrap().status.addresses[0]
            .address
            .to_string(),
        "10.0.0.11"
    );

    let swapped = tried(
        client
            .put::<Vip>("www", &vip_at(&["10.0.0.12", "fd00::10"]), TRY)
            .await,
    );
    let kinds: Vec<_> = swapped
        .changes
        .iter()
        .map(|change| (change.address.to_string(), change.kind))
        .collect();
    let (taken, got) = (ChangeKind::Released, ChangeKind::Allocated);
    assert_eq!(
        kinds,
        [
            ("10.0.0.10".to_owned(), taken),
            ("10.0.0.12".to_owned(), got)
        ]
    );

    let moved = tried(
        client
            .move_vip(
                "www",
                &MoveRequest {
                    to: "n3".to_owned(),
                },
                TRY,
            )
            .await,
    );
    assert_eq!(
        (moved.changes.len(), moved.changes[0].to.as_deref()),
        (2, Some("n3"))
    );

    let drained = tried(client.drain("n1", true, TRY).await);
    assert!(drained.object.unwrap().spec.drained);
    assert_eq!(drained.changes.len(), 2);
    assert!(
        drained
            .changes
            .iter()
            .all(|c| c.from.as_deref() == Some("n1") && c.to.as_deref() != Some("n1"))
    );

    let gone = tried(client.delete::<Vip>("www", TRY).await);
    assert_eq!((gone.object, gone.changes.len()), (None, 2));

    assert_eq!(
        before,
        (
            client.list::<Vip>().await.unwrap(),
            client.list::<Pool>().await.unwrap()
        )
    );
}

#[tokio::test]
async fn it_refuses_what_the_real_write_would_refuse() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let strict = WriteOptions {
        strict: true,
        ..TRY
    };
    assert_eq!(
        reason(client.put::<Pool>("web", &pool(&["10.0.0.15"]), TRY).await),
        "pool_in_use"
    );
    assert_eq!(
        reason(client.put::<Pool>("b", &pool(&["10.0.0.15"]), strict).await),
        "overlap"
    );
    assert_eq!(
        reason(client.delete::<Pool>("web", TRY).await),
        "pool_in_use"
    );
    node.memory.set_quorum(false);
    assert_eq!(
        reason(client.put::<Pool>("c", &pool(&["10.0.9.0/28"]), TRY).await),
        "no_quorum"
    );
}

#[tokio::test]
async fn what_an_agent_would_leave_to_voters_it_does_not_even_try() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let backup = serde_json::to_vec(&client.backup().await.unwrap()).unwrap();
    node.memory.set_agent(true);
    let token = TokenRequest {
        name: "ci".to_owned(),
        access: Access::Read,
        ttl_seconds: None,
    };
    assert_eq!(reason(client.try_token(&token).await), "refused");
    assert_eq!(reason(client.would_remove("n2").await), "refused");
    let restore = RestoreOptions {
        dry_run: true,
        tokens: false,
        force: false,
    };
    assert_eq!(reason(client.restore(backup, restore).await), "refused");
    // What it hands on, it tries.
    tried(client.put::<Vip>("more", &vip(Families::Ipv4), TRY).await);
}
