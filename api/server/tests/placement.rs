//! Policies, weights, groups, plans and rebalancing over the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, pool, reason};
use serde_json::json;
use vipd_api_types::{
    Change, MoveRequest, NodePatch, NodeSpecPatch, Operator, Policy, Pool, Requirement, Vip,
};
use vipd_client::{Client, WriteOptions, Written};

const DO: WriteOptions = WriteOptions {
    dry_run: false,
    if_revision: None,
    strict: false,
    force: false,
};
const TRY: WriteOptions = WriteOptions {
    dry_run: true,
    if_revision: None,
    strict: false,
    force: false,
};

/// A pool, and so many VIPs of one IPv4 address each: `v0`, `v1`...
async fn vips(client: &Client, n: usize) {
    let blocks = pool(&["10.0.0.10-10.0.0.99"]);
    client.put::<Pool>("web", &blocks, DO).await.unwrap();
    for i in 0..n {
        let body = json!({ "labels": { "app": "web" }, "spec": { "families": "ipv4" } });
        let name = format!("v{i}");
        client.put::<Vip>(&name, &body, DO).await.unwrap();
    }
}

async fn holder(client: &Client, vip: &str) -> Option<String> {
    let vip = client.get::<Vip>(vip).await.unwrap();
    vip.status.addresses[0].holder.clone()
}

async fn weigh(client: &Client, node: &str, weight: u8) {
    let spec = NodeSpecPatch {
        weight: Some(weight),
        ..NodeSpecPatch::default()
    };
    client
        .patch_node(node, &NodePatch { spec }, DO)
        .await
        .unwrap();
}

fn done<T>(written: Written<T>) -> T {
    match written {
        Written::Done(Some(object)) => object,
        Written::Done(None) | Written::Tried(_) => panic!("an object was expected"),
    }
}

fn tos(changes: &[Change]) -> Vec<Option<&str>> {
    changes.iter().map(|change| change.to.as_deref()).collect()
}

#[tokio::test]
async fn a_policy_is_an_object_like_any_other_and_moves_what_it_selects() {
    let node = Node::start().await;
    let client = node.client();
    vips(&client, 2).await;
    let body = json!({ "spec": {
        "vip_selector": { "match_labels": { "app": "web" } },
        "node_selector": { "match_expressions": [{ "key": "vipd/name", "operator": "in", "values": ["n3"] }] },
        "interfaces": ["^eth"],
    } });
    let tried = match client.put::<Policy>("p", &body, TRY).await.unwrap() {
        Written::Tried(tried) => tried,
        Written::Done(done) => panic!("was carried out: {done:?}"),
    };
    assert_eq!(tos(&tried.changes), [Some("n3"), Some("n3")]);
    let made = done(client.put::<Policy>("p", &body, DO).await.unwrap());
    assert_eq!(
        (made.status.vips.len(), made.status.nodes),
        (2, vec!["n3".to_owned()])
    );
    let expected = Requirement {
        key: "vipd/name".into(),
        operator: Operator::In,
        values: vec!["n3".into()],
    };
    assert_eq!(made.spec.node_selector.match_expressions, [expected]);
    for vip in ["v0", "v1"] {
        assert_eq!(holder(&client, vip).await.as_deref(), Some("n3"));
    }
    let stale = WriteOptions {
        if_revision: Some(1),
        ..DO
    };
    assert_eq!(
        reason(client.put::<Policy>("p", &body, stale).await),
        "revision_mismatch"
    );
    assert_eq!(client.list::<Policy>().await.unwrap().items.len(), 1);
    client.delete::<Policy>("p", DO).await.unwrap();
    assert_eq!(reason(client.delete::<Policy>("p", DO).await), "not_found");
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_refused_with_the_reason() {
    let node = Node::start().await;
    let client = node.client();
    let spec = |field: &str, value| json!({ "spec": { field: value } });
    let on = |operator, values: &[&str]| {
        spec(
            "vip_selector",
            json!({ "match_expressions": [{ "key": "a", "operator": operator, "values": values }] }),
        )
    };
    for (body, why) in [
        (spec("interfaces", json!(["eth("])), "no regular expression"),
        (on("in", &[]), "has no values"),
        (on("exists", &["x"]), "has values"),
        (on("like", &["x"]), "unknown variant `like`"),
        (
            spec("vip_selectors", json!({})),
            "unknown field spec.vip_selectors",
        ),
    ] {
        let error = client.put::<Policy>("p", &body, DO).await.unwrap_err();
        assert!(error.to_string().contains(why), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_node_is_patched_and_what_is_left_out_stays() {
    let node = Node::start().await;
    let client = node.client();
    weigh(&client, "n2", 40).await;
    let label = |value: Option<&str>| NodePatch {
        spec: NodeSpecPatch {
            labels: [("rack".to_owned(), value.map(str::to_owned))].into(),
            ..NodeSpecPatch::default()
        },
    };
    let set = done(
        client
            .patch_node("n2", &label(Some("a")), DO)
            .await
            .unwrap(),
    );
    assert_eq!(
        (set.spec.weight, set.spec.labels["rack"].as_str()),
        (40, "a")
    );
    let unset = done(client.patch_node("n2", &label(None), DO).await.unwrap());
    assert!(!unset.spec.labels.contains_key("rack"));
    let heavy = NodePatch {
        spec: NodeSpecPatch {
            weight: Some(101),
            ..NodeSpecPatch::default()
        },
    };
    assert_eq!(reason(client.patch_node("n2", &heavy, DO).await), "invalid");
    assert_eq!(
        reason(client.patch_node("n9", &label(None), DO).await),
        "not_found"
    );
}

#[tokio::test]
async fn a_group_moves_with_any_of_its_vips() {
    let node = Node::start().await;
    let client = node.client();
    vips(&client, 0).await;
    for vip in ["in", "out"] {
        let body =
            json!({ "spec": { "families": "ipv4", "group": "gw", "failback": "after:10s" } });
        client.put::<Vip>(vip, &body, DO).await.unwrap();
    }
    let to = MoveRequest { to: "n3".into() };
    client.move_vip("in", &to, DO).await.unwrap();
    for vip in ["in", "out"] {
        let vip = client.get::<Vip>(vip).await.unwrap();
        let address = &vip.status.addresses[0];
        assert_eq!(address.holder.as_deref(), Some("n3"));
        assert_eq!(address.home.as_deref(), Some("n3"));
        assert_eq!(vip.spec.failback.to_string(), "after:10s");
    }
    let bad = json!({ "spec": { "failback": "soon" } });
    let error = client.put::<Vip>("in", &bad, DO).await.unwrap_err();
    assert!(
        error.to_string().contains("never, always, after:TIME"),
        "{error}"
    );
}

#[tokio::test]
async fn a_vip_without_a_holder_says_whether_its_group_or_a_policy_is_in_the_way() {
    let node = Node::start().await;
    let client = node.client();
    vips(&client, 0).await;
    let nowhere = json!({ "spec": {
        "vip_selector": { "match_labels": { "app": "web" } },
        "node_selector": { "match_labels": { "rack": "z" } },
    } });
    client.put::<Policy>("p", &nowhere, DO).await.unwrap();
    let body = json!({ "labels": { "app": "web" }, "spec": { "families": "ipv4", "group": "g" } });
    client.put::<Vip>("a", &body, DO).await.unwrap();
    let why = |vip: Vip| vip.status.addresses[0].conditions[0].message.clone();
    assert_eq!(
        why(client.get::<Vip>("a").await.unwrap()),
        "no policy that selects vip/a lets a node that is up announce it"
    );
    let other = json!({ "spec": { "families": "ipv4", "group": "g" } });
    client.put::<Vip>("b", &other, DO).await.unwrap();
    assert_eq!(
        why(client.get::<Vip>("b").await.unwrap()),
        "no node that is up can hold all of group g"
    );
}

#[tokio::test]
async fn a_plan_says_who_takes_what_and_the_list_of_vips_agrees() {
    let node = Node::start().await;
    let client = node.client();
    vips(&client, 6).await;
    let plan = client.plan("n2", false).await.unwrap();
    assert_eq!(
        tos(&plan.changes),
        [Some("n1"), Some("n3")],
        "spread, not piled"
    );
    let vips = client.list::<Vip>().await.unwrap().items;
    for change in &plan.changes {
        let vip = vips.iter().find(|vip| vip.name == change.vip).unwrap();
        assert_eq!(vip.status.addresses[0].runner_up, change.to);
        let one = client.get::<Vip>(&vip.name).await.unwrap();
        assert_eq!(one.status.addresses[0].runner_up, change.to);
    }
    let counts: Vec<_> = plan
        .loads
        .iter()
        .map(|load| (load.before, load.after))
        .collect();
    assert_eq!(counts, [(2, 3), (2, 0), (2, 3)]);
    assert!(plan.quorum);
    assert_eq!(plan.within_ms, Some(163), "{}", plan.estimate);
    let leader = client.plan("n1", false).await.unwrap();
    assert_eq!(leader.within_ms, Some(183), "{}", leader.estimate);
    let drained = client.plan("n2", true).await.unwrap();
    assert_eq!(tos(&drained.changes), tos(&plan.changes));
    assert_eq!(drained.within_ms, Some(10));
    assert_eq!(
        client.list::<Vip>().await.unwrap().items,
        vips,
        "nothing was changed"
    );
    assert_eq!(reason(client.plan("n9", false).await), "not_found");
}

#[tokio::test]
async fn a_plan_that_loses_the_majority_says_that_everybody_falls_silent() {
    let node = Node::start().await;
    let client = node.client();
    vips(&client, 3).await;
    client.remove_member("n3").await.unwrap();
    let plan = client.plan("n2", false).await.unwrap();
    assert_eq!((plan.quorum, plan.within_ms), (false, None));
    assert_eq!(tos(&plan.changes), [None, None, None]);
}

#[tokio::test]
async fn rebalance_moves_what_it_said_it_would() {
    let node = Node::start().await;
    let client = node.client();
    for light in ["n2", "n3"] {
        weigh(&client, light, 0).await;
    }
    vips(&client, 6).await;
    for full in ["n2", "n3"] {
        weigh(&client, full, 100).await;
    }
    let tried = client.rebalance(true).await.unwrap();
    assert!(tried.dry_run && tried.changes.len() == 4);
    assert_eq!(holder(&client, "v5").await.as_deref(), Some("n1"));
    let moved = client.rebalance(false).await.unwrap();
    assert_eq!((moved.dry_run, &moved.changes), (false, &tried.changes));
    assert!(moved.loads.iter().all(|load| load.after == 2));
    for change in &moved.changes {
        assert_eq!(holder(&client, &change.vip).await, change.to);
    }
    assert_eq!(client.rebalance(false).await.unwrap().changes, []);
}
