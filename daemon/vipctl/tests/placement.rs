//! `plan`, `policy`, `node set`, `cluster rebalance`: what an operator types and reads.
#![allow(clippy::unwrap_used)]

mod common;

use common::Node;

/// A pool and so many VIPs of one IPv4 address each.
async fn vips(node: &Node, n: usize) {
    node.vipctl("pool create web --block 10.0.0.10-10.0.0.99")
        .await
        .good();
    for i in 0..n {
        node.vipctl(&format!("vip create v{i} --families ipv4 --label app=web"))
            .await
            .good();
    }
}

fn squeeze(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

#[tokio::test]
async fn plan_is_a_table_and_a_summary() {
    let node = Node::start().await;
    vips(&node, 6).await;
    let plan = node.vipctl("plan --without n2").await.good();
    let lines = squeeze(&plan);
    assert_eq!(
        lines[..3],
        [
            "VIP ADDRESS FROM TO",
            "v1 10.0.0.11 n2 n1",
            "v4 10.0.0.14 n2 n3"
        ],
        "{plan}"
    );
    assert_eq!(lines[6], "n2 100 2 0", "{plan}");
    assert!(
        lines[9].starts_with(
            "with n2 lost 2 addresses move (1 to n1, 1 to n3), answered for again within about 163 ms: the voters' \
             promise of 153 ms (lease of 150 ms)"
        ),
        "{plan}"
    );
    let plan = node.vipctl("plan --drain n2").await.good();
    assert!(plan.contains("with n2 drained 2 addresses move"), "{plan}");
    let json = node.vipctl("plan --without n1 -o json").await.good();
    let plan: vipd_api_types::Plan = serde_json::from_str(&json).unwrap();
    assert_eq!(plan.without, "n1");
    assert_eq!(node.vipctl("plan").await.code, 2, "which node?");
}

#[tokio::test]
async fn plan_warns_of_what_nobody_can_take() {
    let node = Node::start().await;
    vips(&node, 0).await;
    node.vipctl("policy create only-n2 --vip-label app=web --node-label vipd/name=n2")
        .await
        .good();
    node.vipctl("vip create v --families ipv4 --label app=web")
        .await
        .good();
    let lost = node.vipctl("plan --without n2").await.good();
    assert!(
        lost.ends_with("! 1 addresses have no holder then: no other node can take them\n"),
        "{lost}"
    );
    let drained = node.vipctl("plan --drain n2").await.good();
    assert!(
        drained.ends_with("! 1 addresses stay on n2: no other node can take them\n"),
        "{drained}"
    );
    node.vipctl("cluster remove n3").await.good();
    let silent = node.vipctl("plan --without n2").await.good();
    assert!(
        silent.contains("no majority of the voters is left"),
        "{silent}"
    );
}

#[tokio::test]
async fn policies_are_made_shown_applied_and_deleted() {
    let node = Node::start().await;
    vips(&node, 2).await;
    let made = node
        .vipctl("policy create p --vip-label app=web --node-label vipd/name=n3 --interface ^eth")
        .await
        .good();
    assert_eq!(made, "policy/p created: 2 VIPs, 1 nodes\n");
    let list = squeeze(&node.vipctl("policies list").await.good());
    assert_eq!(list[1], "p app=web 2 vipd/name=n3 n3 ^eth");
    let yaml = node.vipctl("policy get p -o yaml").await.good();
    let file = node.dir.path().join("p.yaml");
    std::fs::write(&file, yaml.replace("^eth", "^bond")).unwrap();
    let apply = format!("policy apply -f {}", file.display());
    for said in ["policy/p changed\n", "policy/p unchanged\n"] {
        let applied = node.vipctl(&apply).await;
        assert_eq!((applied.code, applied.out.as_str()), (0, said));
        // No node has such an interface.
        assert_eq!(applied.err.matches("warning: vip/").count(), 2);
    }
    assert_eq!(
        node.vipctl("policy delete p").await.good(),
        "policy/p deleted\n"
    );
    let (error, _) = node.vipctl("policy get p").await.refused();
    assert_eq!(error, "no policy named p");
    let (error, _) = node
        .vipctl("policy create q --interface eth(")
        .await
        .refused();
    assert!(error.contains("no regular expression"), "{error}");
}

#[tokio::test]
async fn a_file_of_all_kinds_is_applied_pools_first_and_vips_last() {
    let node = Node::start().await;
    let file = node.dir.path().join("all.yaml");
    std::fs::write(
        &file,
        "kind: vip\nname: www\nlabels: {app: web}\nspec: {families: ipv4, group: g, apart: k, failback: after:1m}\n---\n\
         kind: policy\nname: p\nspec: {node_selector: {match_labels: {vipd/name: n2}}}\n---\n\
         kind: pool\nname: web\nspec: {blocks: [{cidr: 10.0.0.32/28}]}\n",
    )
    .unwrap();
    let said = node
        .vipctl(&format!("apply -f {}", file.display()))
        .await
        .good();
    assert_eq!(
        said,
        "pool/web created\npolicy/p created\nvip/www created\n"
    );
    let vip = node.vipctl("vip get www").await.good();
    assert!(
        vip.ends_with("group g, apart by k, home n2, failback after:1m\n"),
        "{vip}"
    );
}

#[tokio::test]
async fn a_node_is_given_a_weight_and_labels() {
    let node = Node::start().await;
    let set = node
        .vipctl("node set n2 --weight 0 --label rack=a")
        .await
        .good();
    assert_eq!(set, "node/n2 set: weight 0, labels rack=a\n");
    let list = node.vipctl("node list").await.good();
    assert!(list.contains("up, weight 0"), "{list}");
    let set = node.vipctl("node set n2 --unlabel rack").await.good();
    assert_eq!(set, "node/n2 set: weight 0, no labels\n");
    assert_eq!(node.vipctl("node set n2").await.code, 2, "set what?");
    assert_eq!(node.vipctl("node set n2 --weight 101").await.code, 2);
    for twice in ["--label a=b --unlabel a", "--label a=b --label a=c"] {
        let (error, next) = node.vipctl(&format!("node set n2 {twice}")).await.refused();
        assert_eq!(error, "label a is named twice", "{twice}: {next}");
    }
    let tried = node.vipctl("node set n2 --weight 7 --dry-run").await.good();
    assert!(tried.contains("dry run"), "{tried}");
    let get = node.vipctl("node get n2").await.good();
    assert!(get.contains("weight 0, no labels"), "{get}");
}

#[tokio::test]
async fn rebalance_says_what_would_move_then_moves_it_then_has_nothing_to_do() {
    let node = Node::start().await;
    for light in ["n2", "n3"] {
        node.vipctl(&format!("node set {light} --weight 0"))
            .await
            .good();
    }
    vips(&node, 4).await;
    node.vipctl("node set n2 --weight 100").await.good();
    let tried = node.vipctl("cluster rebalance --dry-run").await.good();
    assert!(
        tried.ends_with("2 of 4 addresses would move (dry run, nothing was changed)\n"),
        "{tried}"
    );
    let moved = node.vipctl("cluster rebalance").await.good();
    assert!(moved.ends_with("2 of 4 addresses moved\n"), "{moved}");
    let events = node.vipctl("events").await.good();
    assert!(
        events.contains("n1 -> n2") && events.contains("(rebalanced)"),
        "{events}"
    );
    let again = node.vipctl("cluster rebalance").await.good();
    assert!(again.ends_with("balanced: nothing to move\n"), "{again}");
}

#[tokio::test]
async fn moving_a_vip_of_a_group_says_that_the_group_went_along() {
    let node = Node::start().await;
    vips(&node, 0).await;
    for vip in ["in", "out"] {
        node.vipctl(&format!(
            "vip create {vip} --families ipv4 --group gw --failback after:10s"
        ))
        .await
        .good();
    }
    assert_eq!(
        node.vipctl("vip move in --to n3").await.good(),
        "vip/in with its group gw moved to n3\n"
    );
    let out = node.vipctl("vip get out").await.good();
    assert!(out.contains("home n3, failback after:10s"), "{out}");
    assert_eq!(
        node.vipctl("vip create x --failback soon").await.code,
        2,
        "never, always, after:TIME"
    );
}

#[tokio::test]
async fn a_policy_that_leaves_a_vip_without_a_node_says_so_at_once_and_validate_after_it() {
    let node = Node::start().await;
    vips(&node, 1).await;
    let zz = "policy create edge --vip-label app=web --node-label rack=zz";
    let tried = node.vipctl(&format!("{zz} --dry-run")).await;
    assert!(!tried.err.contains("warning"), "{tried:?}");
    let made = node.vipctl(zz).await;
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.out.starts_with("policy/edge created"), "{made:?}");
    let warned = "warning: vip/v0 has no node that may hold it: ";
    assert!(made.err.starts_with(warned), "{made:?}");
    assert!(
        made.err.contains("\nnext: compare vipctl policy list"),
        "{made:?}"
    );
    let validated = node.vipctl("validate").await;
    assert!(
        validated.out.contains("vip/v0: no node may hold it: "),
        "{validated:?}"
    );

    let vip =
        |app| format!("kind: vip\nname: v0\nlabels: {{app: {app}}}\nspec: {{families: ipv4}}\n");
    // A label of its own brings it out of the policy, and into it again.
    node.vipctl_stdin("apply -f -", &vip("db")).await.good();
    let run = node.vipctl_stdin("apply -f -", &vip("web")).await;
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "vip/v0 changed\n"),
        "{run:?}"
    );
    assert!(run.err.starts_with(warned), "{run:?}");
}
