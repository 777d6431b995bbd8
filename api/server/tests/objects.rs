//! Pools, VIPs and nodes through the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, done, http_unix, pool, reason, vip, vip_at, web_and_www};
use vipd_api_types::{Families, MoveRequest, Pool, Vip};
use vipd_client::{WriteOptions, Written};

const NOW: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};

#[tokio::test]
async fn a_pool_and_a_dual_stack_vip_are_made_and_held() {
    let node = Node::start().await;
    let (web, www) = web_and_www(&node.client()).await;
    assert_eq!(web.status.families.ipv4.unwrap().total, 11);
    let addresses: Vec<_> = www
        .status
        .addresses
        .iter()
        .map(|found| found.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.10", "fd00::10"]);
    for address in &www.status.addresses {
        assert_eq!(address.holder.as_deref(), Some("n1"));
        assert!(address.runner_up.is_some());
        assert_eq!(address.interface.as_deref(), Some("eth0"));
        assert_eq!(
            address.answering,
            Some(true),
            "the answering node is the holder"
        );
        assert!(address.epoch > 0);
    }
    let web = node.client().get::<Pool>("web").await.unwrap();
    assert_eq!(web.status.families.ipv4.unwrap().used, 1);
}

#[tokio::test]
async fn a_condition_on_a_request_that_knows_none_is_refused_not_left_out() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let when = WriteOptions {
        if_revision: Some(1),
        ..NOW
    };
    let to = MoveRequest {
        to: "n2".to_owned(),
    };
    assert_eq!(
        reason(client.move_vip("www", &to, when).await),
        "bad_condition"
    );
    assert_eq!(
        reason(client.drain("n1", true, when).await),
        "bad_condition"
    );
    let other = vip(Families::Ipv4);
    assert_eq!(
        reason(client.create::<Vip>(&other, when).await),
        "bad_condition"
    );
    let www = client.get::<Vip>("www").await.unwrap();
    assert_eq!(www.status.addresses[0].holder.as_deref(), Some("n1"));
}

#[tokio::test]
async fn put_is_idempotent_and_counts_only_changes() {
    let node = Node::start().await;
    let client = node.client();
    let first = done(
        client
            .put::<Pool>("web", &pool(&["10.0.0.0/28"]), NOW)
            .await,
    );
    let again = done(
        client
            .put::<Pool>("web", &pool(&["10.0.0.0/28"]), NOW)
            .await,
    );
    assert_eq!(first, again);
    let wider = done(
        client
            .put::<Pool>("web", &pool(&["10.0.0.0/28", "fd00::/120"]), NOW)
            .await,
    );
    assert_eq!(
        (wider.generation, wider.status.families.ipv6.unwrap().total),
        (first.generation + 1, 256)
    );
}

#[tokio::test]
async fn what_was_read_can_be_written_back() {
    let node = Node::start().await;
    let client = node.client();
    let (web, www) = web_and_www(&client).await;
    assert_eq!(
        done(client.put::<Pool>("web", &web, NOW).await).revision,
        web.revision
    );
    assert_eq!(
        done(client.put::<Vip>("www", &www, NOW).await).revision,
        www.revision
    );
}

#[tokio::test]
async fn create_makes_a_name_or_fails_on_an_existing_one() {
    let node = Node::start().await;
    let client = node.client();
    let made = done(client.create::<Pool>(&pool(&["10.0.0.0/28"]), NOW).await);
    assert!(made.name.starts_with("pool-"), "{}", made.name);
    let mut again = pool(&["10.0.1.0/28"]);
    again.name = Some(made.name);
    assert_eq!(
        reason(client.create::<Pool>(&again, NOW).await),
        "already_exists"
    );
}

#[tokio::test]
async fn a_write_on_an_older_revision_is_refused() {
    let node = Node::start().await;
    let client = node.client();
    let first = done(
        client
            .put::<Pool>("web", &pool(&["10.0.0.0/28"]), NOW)
            .await,
    );
    let at = |revision| WriteOptions {
        dry_run: false,
        if_revision: Some(revision),
        ..WriteOptions::default()
    };
    let second = done(
        client
            .put::<Pool>("web", &pool(&["10.0.0.0/27"]), at(first.revision))
            .await,
    );
    assert_eq!(
        reason(
            client
                .put::<Pool>("web", &pool(&["10.0.0.0/26"]), at(first.revision))
                .await
        ),
        "revision_mismatch"
    );
    assert_eq!(
        reason(client.delete::<Pool>("web", at(first.revision)).await),
        "revision_mismatch"
    );
    assert_eq!(client.get::<Pool>("web").await.unwrap(), second);
}

#[tokio::test]
async fn delete_frees_the_addresses_and_then_the_pool() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let refused = client.delete::<Pool>("web", NOW).await.unwrap_err();
    assert_eq!(refused.reason(), Some("pool_in_use"));
    assert!(refused.to_string().contains("10.0.0.10 (www)"), "{refused}");
    assert_eq!(
        client.delete::<Vip>("www", NOW).await.unwrap(),
        Written::Done(None)
    );
    assert_eq!(
        client.delete::<Pool>("web", NOW).await.unwrap(),
        Written::Done(None)
    );
    assert!(client.list::<Vip>().await.unwrap().items.is_empty());
    assert!(client.get::<Pool>("web").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_vip_moves_where_it_is_told() {
    let node = Node::start().await;
    let client = node.client();
    let (_, before) = web_and_www(&client).await;
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
    let after = client.get::<Vip>("www").await.unwrap();
    for (before, after) in before.status.addresses.iter().zip(&after.status.addresses) {
        assert_eq!(
            (before.address, after.holder.as_deref()),
            (after.address, Some("n2"))
        );
        assert!(after.epoch > before.epoch);
        assert_eq!(after.answering, None, "only the holder knows");
    }
    assert_eq!(
        reason(
            client
                .move_vip(
                    "www",
                    &MoveRequest {
                        to: "n9".to_owned()
                    },
                    NOW
                )
                .await
        ),
        "not_found"
    );
}

#[tokio::test]
async fn a_drained_node_gives_everything_up_and_takes_nothing() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    client.drain("n1", true, NOW).await.unwrap();
    let nodes = client.list::<vipd_api_types::Node>().await.unwrap().items;
    assert!(nodes[0].spec.drained && nodes[0].status.held.is_empty());
    let refused = client
        .move_vip(
            "www",
            &MoveRequest {
                to: "n1".to_owned(),
            },
            NOW,
        )
        .await
        .unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().as_str()),
        (Some("cannot_hold"), "node n1 cannot hold it: it is drained")
    );
    client.drain("n1", false, NOW).await.unwrap();
    assert!(
        !client
            .get::<vipd_api_types::Node>("n1")
            .await
            .unwrap()
            .spec
            .drained
    );
}

#[tokio::test]
async fn nodes_show_their_lease_interfaces_and_addresses() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    let n1 = client.get::<vipd_api_types::Node>("n1").await.unwrap();
    assert!(n1.status.up && n1.status.leader);
    assert_eq!(n1.status.lease.expires_in_ms, Some(142));
    assert_eq!(
        n1.status.interfaces[0].prefixes,
        ["10.0.0.1/24", "fd00::1/64"]
    );
    assert_eq!(n1.status.held.len(), 2);
    let n2 = client.get::<vipd_api_types::Node>("n2").await.unwrap();
    assert_eq!(
        (n2.status.lease.expires_in_ms, n2.status.last_seen_ms),
        (None, Some(12))
    );
}

#[tokio::test]
async fn a_v6_pool_of_any_size_is_counted_exactly() {
    let node = Node::start().await;
    let made = done(
        node.client()
            .put::<Pool>("six", &pool(&["fd00::/64"]), NOW)
            .await,
    );
    let count = made.status.families.ipv6.unwrap();
    // The three hosts have an address in it themselves.
    assert_eq!((count.total, count.available), (1 << 64, (1 << 64) - 3));
}

#[tokio::test]
async fn a_requested_address_is_given() {
    let node = Node::start().await;
    let client = node.client();
    client
        .put::<Pool>("web", &pool(&["10.0.0.0/28"]), NOW)
        .await
        .unwrap();
    let got = done(client.put::<Vip>("www", &vip_at(&["10.0.0.7"]), NOW).await);
    assert_eq!(got.status.addresses[0].address.to_string(), "10.0.0.7");
    let four = done(client.put::<Vip>("four", &vip(Families::Ipv4), NOW).await);
    assert_eq!(four.status.addresses[0].address.to_string(), "10.0.0.0");
}

#[tokio::test]
async fn a_long_list_is_whole_and_in_order() {
    let node = Node::start().await;
    let client = node.client();
    client
        .put::<Pool>("web", &pool(&["10.0.0.0/24"]), NOW)
        .await
        .unwrap();
    for number in 0..250 {
        client
            .put::<Vip>(&format!("v{number:03}"), &vip(Families::Ipv4), NOW)
            .await
            .unwrap();
    }
    let names: Vec<_> = client
        .list::<Vip>()
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|vip| vip.name)
        .collect();
    assert_eq!(names.len(), 250);
    assert!(names.is_sorted());
}

#[tokio::test]
async fn an_address_that_nobody_else_can_take_says_so() {
    let node = Node::start().await;
    let client = node.client();
    web_and_www(&client).await;
    for name in ["n2", "n3", "n1"] {
        client.drain(name, true, NOW).await.unwrap();
    }
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
        "better a drained holder than none"
    );
    assert_eq!(address.conditions[0].reason, "no_other_node");
}

/// The first line and the rest of the answer to a request without a body.
async fn raw(node: &Node, head: &str) -> (String, String) {
    let request = format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = http_unix(&node.socket, &request).await;
    let (status, rest) = answer.split_once("\r\n").unwrap();
    (status.to_owned(), rest.to_owned())
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_with_a_problem_document_as_all_else() {
    let node = Node::start().await;
    for head in [
        "GET /v1/vips/%ff HTTP/1.1",
        "DELETE /v1/pools/%ff HTTP/1.1",
        "GET /v1/maps/%ff HTTP/1.1",
    ] {
        let (status, rest) = raw(&node, head).await;
        assert!(status.contains("400"), "{head}: {status}");
        assert!(rest.contains("application/problem+json"), "{head}: {rest}");
        assert!(rest.contains("\"bad_path\""), "{head}: {rest}");
    }
}

#[tokio::test]
async fn only_if_there_is_none_is_a_condition_that_fails_and_goes_with_no_other() {
    let node = Node::start().await;
    let (_, www) = web_and_www(&node.client()).await;
    let put = |name: &str, conditions: &str| {
        let head = format!("PUT /v1/vips/{name} HTTP/1.1\r\ncontent-length: 2\r\n{conditions}");
        let socket = node.socket.clone();
        async move {
            let request = format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n{{}}");
            http_unix(&socket, &request).await
        }
    };
    let answer = put("www", "if-none-match: *").await;
    assert!(answer.starts_with("HTTP/1.1 412"), "{answer}");
    assert!(answer.contains("already_exists"), "{answer}");
    let both = format!("if-none-match: *\r\nif-match: \"{}\"", www.revision);
    let answer = put("www", &both).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("bad_condition"), "{answer}");
    // To make one of a name that is taken is no condition of the request.
    let body = serde_json::json!({ "name": "www" });
    let made = node.client().create::<Vip>(&body, NOW).await;
    assert_eq!(reason(made), "already_exists");
}

#[tokio::test]
async fn a_vip_asks_for_no_address_that_no_pool_may_hold() {
    let node = Node::start().await;
    let client = node.client();
    let (_, www) = web_and_www(&client).await;
    for bad in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.5",
        "::ffff:10.0.0.12",
        "ff02::1",
    ] {
        let refused = client.put::<Vip>("new", &vip_at(&[bad]), NOW).await;
        let why = refused.as_ref().unwrap_err().to_string();
        assert!(why.contains("no pool can hold"), "{bad}: {why}");
        let patch = serde_json::json!({ "spec": { "addresses": [bad] } });
        assert_eq!(
            reason(client.patch::<Vip>("www", &patch, NOW).await),
            "invalid"
        );
    }
    // In the log before this was asked: it stays, and others are read beside it.
    node.memory
        .apply(vipd_core::command::Command::PutVip {
            name: "old".parse().unwrap(),
            labels: vipd_core::name::Labels::new(),
            spec: vipd_core::vip::VipSpec {
                addresses: ["0.0.0.0".parse().unwrap()].into_iter().collect(),
                ..Default::default()
            },
            expect: vipd_core::command::Expect::Any,
        })
        .unwrap();
    assert_eq!(client.list::<Vip>().await.unwrap().items.len(), 2);
    assert_eq!(
        client.get::<Vip>("www").await.unwrap().revision,
        www.revision
    );
}
