//! `vipctl wait`: for what vipd only complains of, and what it says when the time is over.
#![allow(clippy::unwrap_used)]

mod common;

use common::Node;

#[tokio::test]
async fn what_is_only_complained_of_can_be_waited_for_and_is_well_without_a_complaint() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10-10.0.0.20")
        .await
        .good();
    node.vipctl("vip create shop --families ipv4 --mode nat --port tcp/80")
        .await
        .good();
    let served = "wait vip/shop --for condition=served";
    let (what, next) = node
        .vipctl(&format!("{served} --timeout 100ms"))
        .await
        .refused();
    assert!(what.contains("it has no ipv4 backend"), "{what}");
    assert!(next.contains("vipctl vip get shop"), "{next}");

    let patient = format!("{served} --timeout 20s");
    let waiting = node.vipctl(&patient);
    let serving = async {
        let shop = "kind: vip\nname: shop\nspec: {families: ipv4, mode: nat, ports: [{port: 80, protocol: tcp}], backends: [{address: 10.9.0.2}]}\n";
        let file = node.file("shop.yaml", shop);
        node.vipctl(&format!("apply -f {}", file.display()))
            .await
            .good();
    };
    let (told, ()) = tokio::join!(waiting, serving);
    assert_eq!(told.good(), "vip/shop served\n");

    for (object, kinds) in [
        ("vip/shop", "held settled unique healthy seen in_time"),
        ("pool/web", "usable unclaimed"),
        ("node/n1", "eligible beats datapath"),
    ] {
        for kind in kinds.split(' ') {
            let words = format!("wait {object} --for condition={kind}");
            let said = format!("{object} {kind}\n");
            assert_eq!(node.vipctl(&words).await.good(), said);
        }
    }
    let (what, next) = node
        .vipctl("wait node/n2 --for condition=datapath")
        .await
        .refused();
    assert!(what.contains("only that node knows"), "{what}");
    assert!(next.contains("on n2, or with --server"), "{next}");
}

#[tokio::test]
async fn a_backend_that_is_down_is_waited_for() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10-10.0.0.20")
        .await
        .good();
    node.vipctl(
        "vip create shop --families ipv4 --mode nat --port tcp/80 --backend 10.9.0.1 --health tcp",
    )
    .await
    .good();
    let (what, _) = node
        .vipctl("wait vip/shop --for condition=healthy --timeout 100ms")
        .await
        .refused();
    assert!(what.contains("1 of 1 backends down"), "{what}");
}

#[tokio::test]
async fn the_next_step_is_about_what_is_waited_for() {
    let node = Node::start().await;
    node.web_and_www().await;
    node.vipctl("policy create edge").await.good();
    for (words, next) in [
        (
            "vip/nope --for condition=held",
            "make it, or compare its name with: vipctl vip list",
        ),
        ("vip/www --for delete", "delete it: vipctl vip delete www"),
        (
            "node/n1 --for delete",
            "remove it: vipctl cluster remove n1",
        ),
        (
            "policy/edge --for condition=held",
            "a policy has none: wait for delete",
        ),
        ("pool/web --for condition=nope", "one of: unclaimed, usable"),
    ] {
        let words = format!("wait {words} --timeout 100ms");
        assert_eq!(node.vipctl(&words).await.refused().1, next, "{words}");
    }
}
