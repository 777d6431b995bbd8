//! Every noun and verb, against the real HTTP API.
#![allow(clippy::unwrap_used)]

mod common;

use common::Node;

#[tokio::test]
async fn the_main_job_needs_two_commands_and_no_file() {
    let node = Node::start().await;
    let made = node
        .vipctl("pool create web --block 10.0.0.10-10.0.0.20 --block fd00::/120")
        .await
        .good();
    assert_eq!(
        made,
        "pool/web created: 11 IPv4 addresses, 256 IPv6 addresses\n"
    );
    let made = node
        .vipctl("vip create www --pool web --families require_dual")
        .await
        .good();
    assert_eq!(made, "vip/www created: 10.0.0.10, fd00::\n");
    let vips = node.vipctl("vip list").await.good();
    let row: Vec<_> = vips.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["www", "10.0.0.10", "web", "n1", "n2"], "{vips}");
    assert!(
        vips.lines()
            .all(|line| line.ends_with("answering") || line.ends_with("STATE")),
        "{vips}"
    );
}

#[tokio::test]
async fn events_tell_who_asked_and_can_be_had_of_one_asker() {
    let node = Node::start().await;
    node.web_and_www().await;
    let owner = std::fs::metadata(node.dir.path()).unwrap();
    let me = format!("uid/{}", std::os::unix::fs::MetadataExt::uid(&owner));
    let told = node.vipctl("events --who").await.good();
    let line = told.lines().find(|line| line.contains("pool web set"));
    assert!(line.unwrap().contains(&format!("{me} at n1")), "{told}");
    let mine = node.vipctl(&format!("events --who {me}")).await.good();
    assert!(
        mine.lines().all(|line| line.contains(&me)) && mine.contains("VIP www set"),
        "{mine}"
    );
    assert_eq!(node.vipctl("events --who token/ci").await.good().trim(), "");
    let all = node.vipctl("events").await.good();
    let web = node.vipctl("events pool/web").await.good();
    assert!(
        web.lines().all(|line| line.contains("pool/web")) && web.contains("set"),
        "{web}"
    );
    let last = node.vipctl("events -n 1").await.good();
    assert_eq!(last.lines().next(), all.lines().last());
    assert_eq!(last.lines().count(), 1);
}

#[tokio::test]
async fn who_shares_and_who_waits_is_in_the_table_and_whole_below_it() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10")
        .await
        .good();
    for (vip, port) in [("a", "tcp/80"), ("b", "tcp/443"), ("c", "udp/53")] {
        node.vipctl(&format!(
            "vip create {vip} --families ipv4 --sharing-key k --port {port}"
        ))
        .await
        .good();
    }
    node.vipctl("vip create late --families ipv4").await.good();
    let vips = node.vipctl("vip list -o wide").await.good();
    let row = |vip: &str| {
        vips.lines()
            .find(|line| line.starts_with(vip))
            .unwrap()
            .to_owned()
    };
    assert!(
        row("a ").ends_with("answering, shared with b and 1 more"),
        "{vips}"
    );
    assert!(row("late").contains("it waits:"), "{vips}");
    let late = node.vipctl("vip get late").await.good();
    assert!(
        late.lines().any(|line| line.starts_with("! it waits:")),
        "{late}"
    );
    node.vipctl("pool create twin --block 10.0.0.10")
        .await
        .good();
    let twin = node.vipctl("pool get twin").await.good();
    assert!(
        twin.contains("conflicting\n! its block 10.0.0.10 overlaps"),
        "{twin}"
    );
}

#[tokio::test]
async fn tables_are_plain_when_nobody_looks() {
    let node = Node::start().await;
    node.web_and_www().await;
    let pools = node.vipctl("pool list").await.good();
    let expected = "\
        POOL  BLOCKS                                     IPV4 USED  IPV6 USED  PRIORITY  STATE\n\
        web   10.0.0.10-10.0.0.20 fd00::10-fd00::20      1/11       1/17       0         ready\n";
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&pools), squeeze(expected), "{pools}");
    assert!(
        !pools.contains('\u{1b}') && pools.lines().all(|line| line.trim_end() == line),
        "{pools:?}"
    );
}

#[tokio::test]
async fn json_and_yaml_carry_everything_for_scripts() {
    let node = Node::start().await;
    node.web_and_www().await;
    let json = node.vipctl("vip get www -o json").await.good();
    let vip: vipd_api_types::Vip = serde_json::from_str(&json).unwrap();
    assert_eq!(vip.status.addresses[0].holder.as_deref(), Some("n1"));
    let yaml = node.vipctl("-o yaml vip get www").await.good();
    assert_eq!(
        serde_yaml_ng::from_str::<vipd_api_types::Vip>(&yaml).unwrap(),
        vip
    );
    node.vipctl("pool create six --block fd01::/64")
        .await
        .good();
    let json = node.vipctl("pool get six -o json").await.good();
    assert!(json.contains("\"total\": 18446744073709551616"), "{json}");
}

#[tokio::test]
async fn move_and_drain_come_back_when_it_is_done() {
    let node = Node::start().await;
    node.web_and_www().await;
    assert_eq!(
        node.vipctl("vip move www --to n2").await.good(),
        "vip/www moved to n2\n"
    );
    let events = node.vipctl("events").await.good();
    assert!(
        events.contains("10.0.0.10: n1 -> n2") && events.contains("moved by the operator"),
        "{events}"
    );
    assert_eq!(
        node.vipctl("node drain n2").await.good(),
        "node/n2 drained: it holds nothing\n"
    );
    let nodes = node.vipctl("node list").await.good();
    assert!(
        nodes.contains("up, drained") && nodes.contains("voter, leader"),
        "{nodes}"
    );
    assert_eq!(
        node.vipctl("node undrain n2").await.good(),
        "node/n2 undrained\n"
    );
    let one = node.vipctl("node get n1").await.good();
    let bounds =
        "flows: 1048576 elements, 39321 new a second; forgotten after TCP opening 10s, open 150m";
    assert!(one.contains(bounds), "{one}");
    let other = node.vipctl("node get n2").await.good();
    assert!(!other.contains("flows:"), "only n1 knows its own: {other}");
    assert!(
        one.contains("eth0") && one.contains("10.0.0.1/24 fd00::1/64"),
        "{one}"
    );
}

#[tokio::test]
async fn a_move_that_does_not_happen_is_a_failure_that_says_so() {
    let node = Node::start().await;
    node.web_and_www().await;
    node.memory.set_prompt(false);
    assert_eq!(
        node.vipctl("vip move www --to n2 --wait 0").await.good(),
        "vip/www is moving to n2\n"
    );
    let (what, next) = node.vipctl("vip move www --to n2 --wait 1").await.refused();
    assert!(
        what.starts_with("accepted, but after 1 s 10.0.0.10 is held by n1"),
        "{what}"
    );
    assert!(next.contains("vipctl vip list"), "{next}");
    let (what, _) = node.vipctl("vip move www --to n3").await.refused();
    assert!(what.ends_with("is just moving to node n2"), "{what}");
}

#[tokio::test]
async fn status_shows_cluster_nodes_and_vips_even_without_a_quorum() {
    let node = Node::start().await;
    node.web_and_www().await;
    let status = node.vipctl("status").await.good();
    assert!(
        status.starts_with("leader n1, term 1, quorum (2 of 3 voters needed)"),
        "{status}"
    );
    assert!(status.contains("www") && status.contains("n3"), "{status}");
    node.memory.set_quorum(false);
    let status = node.vipctl("status").await.good();
    assert!(
        status.contains("NO QUORUM") && status.contains("\n! a majority of the voters"),
        "{status}"
    );
    assert!(status.contains("silent"), "{status}");
    let (what, next) = node.vipctl("vip list").await.refused();
    assert!(
        what.contains("no leader is known") && next.contains("vipctl --local vip list"),
        "{what} {next}"
    );
    assert!(node.vipctl("--local vip list").await.good().contains("www"));
}

#[tokio::test]
async fn cluster_members_and_tokens() {
    let node = Node::start().await;
    let members = node.vipctl("cluster members").await.good();
    assert!(
        members.contains("voter, leader") && members.contains("10.0.0.3:7400"),
        "{members}"
    );
    let token = node
        .vipctl("cluster token --role agent --ttl 30 --uses 2")
        .await
        .good();
    assert!(token.contains("\n  vipd join 10.0.0.1:7400 "), "{token}");
    assert!(
        node.vipctl("cluster remove n3")
            .await
            .good()
            .starts_with("node/n3 removed")
    );
    assert!(
        node.vipctl("cluster compact")
            .await
            .good()
            .starts_with("the log is compacted up to index")
    );
    node.vipctl("cluster remove n3").await.refused();
}

#[tokio::test]
async fn a_dry_run_of_a_removal_or_a_token_says_what_would_be_and_changes_nothing() {
    let node = Node::start().await;
    node.web_and_www().await;
    let run = node.vipctl("cluster remove n1 --dry-run").await;
    assert_eq!(run.code, 1, "it is up: {run:?}");
    let told: Vec<_> = run.out.lines().collect();
    assert_eq!(
        told[..3],
        [
            "without node/n1 (dry run, nothing was changed):",
            "  2 of 2 voters are a majority",
            "  10.0.0.10 of vip/www would move from n1 to n2",
        ],
        "{run:?}"
    );
    assert!(run.err.contains("stop vipd on it first"), "{run:?}");
    assert!(node.vipctl("cluster members").await.good().contains("n1 "));
    node.memory.down("n3");
    let would = node.vipctl("cluster remove n3 --dry-run").await.good();
    assert!(would.ends_with("2 of 2 voters are a majority\n"), "{would}");
    let run = node.vipctl("cluster remove n2 --dry-run").await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.out.contains("\n! no majority is up"), "{run:?}");
    assert!(run.out.contains("from n1 to nobody"), "{run:?}");
    assert!(run.err.contains("nothing can be decided"), "{run:?}");

    let would = node.vipctl("token create ci --dry-run").await.good();
    assert_eq!(
        would,
        "token/ci would be set (dry run, nothing was changed)\n"
    );
    node.vipctl("token create ci").await.good();
    let (what, _) = node.vipctl("token create ci --dry-run").await.refused();
    assert!(what.contains("ci"), "{what}");
    let would = node.vipctl("token revoke ci --dry-run").await.good();
    assert_eq!(
        would,
        "token/ci would be gone (dry run, nothing was changed)\n"
    );
    assert!(node.vipctl("token list").await.good().contains("ci"));
    node.vipctl("token revoke no --dry-run").await.refused();
}

#[tokio::test]
async fn api_tokens_open_the_door_over_tls() {
    let node = Node::start().await;
    let token = node
        .vipctl("token create ci --access write --ttl 7")
        .await
        .good();
    let file = node.file("token", &token);
    let ca = node.dir.path().join("ca.crt");
    let server = format!("https://{}", node.tls);
    let tls = async |words: &str| common::run(&server, words.split_whitespace(), "").await;
    let door = format!("--ca {} --token-file {}", ca.display(), file.display());
    tls(&format!("{door} pool create web --block 10.0.0.1"))
        .await
        .good();
    let (what, next) = tls(&format!("{door} token list")).await.refused();
    assert!(
        what.contains("allows write, this needs admin") && next.contains("--access admin"),
        "{what} {next}"
    );
    let (what, _) = tls(&format!("--ca {} pool list", ca.display()))
        .await
        .refused();
    assert_eq!(what, "the request carries no token");
    let (what, next) = tls("pool list").await.refused();
    assert!(
        what.contains("cannot reach") && next.contains("--ca FILE"),
        "{what} {next}"
    );
    let (what, _) = tls(&format!(
        "--ca {} --token-file /nonexistent pool list",
        ca.display()
    ))
    .await
    .refused();
    assert!(
        what.contains("cannot read the token from /nonexistent"),
        "{what}"
    );
    assert!(node.vipctl("token list").await.good().contains("ci"));
    node.vipctl("token delete ci").await.good();
    let (what, _) = tls(&format!("{door} pool list")).await.refused();
    assert!(what.contains("not known to this cluster"), "{what}");
}

#[tokio::test]
async fn a_vip_that_spreads_connections_is_made_and_shown_in_few_words() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10-10.0.0.20")
        .await
        .good();
    let made = node
        .vipctl(
            "vip create www --families ipv4 --mode nat --port tcp/80=8080 --port udp/53 \
             --backend 10.9.0.1,weight=2 --backend 10.9.0.2:9090,node=n1",
        )
        .await
        .good();
    assert_eq!(made, "vip/www created: 10.0.0.10\n");
    let shown = node.vipctl("vip get www").await.good();
    assert!(
        shown.contains(
            "mode nat, ports tcp/80=8080 udp/53, backends 10.9.0.1,weight=2 10.9.0.2:9090,node=n1"
        ),
        "{shown}"
    );
    let narrow = node.vipctl("vip list").await.good();
    assert!(!narrow.contains("BACKENDS"), "{narrow}");
    let wide = node.vipctl("vip list -o wide").await.good();
    assert!(
        wide.contains("MODE") && wide.contains("nat") && wide.contains("10.9.0.1,weight=2"),
        "{wide}"
    );
    let (why, next) = node
        .vipctl("vip create alone --mode dsr --backend 10.9.0.1")
        .await
        .refused();
    assert!(why.contains("is of mode dsr and names no port"), "{why}");
    assert!(next.contains("correct the spec"), "{next}");
}

#[tokio::test]
async fn the_state_says_first_whether_it_answers_and_then_what_is_amiss_with_that_very_address() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10-10.0.0.20 --block fd00::10-fd00::20")
        .await
        .good();
    node.vipctl(
        "vip create www --families require_dual --mode nat --port tcp/80 --backend 10.9.0.2",
    )
    .await
    .good();
    let states = |table: &str| -> Vec<String> {
        let from = table.find("STATE").unwrap();
        let rows = table.lines().skip(1);
        rows.map(|row| row[from..].to_owned()).collect()
    };
    let amiss = "it has no ipv6 backend that takes connections: new ones to its ports are dropped";
    let list = node.vipctl("vip list").await.good();
    assert_eq!(states(&list), ["answering", &format!("answering; {amiss}")]);
    node.memory.set_quorum(false);
    let list = node.vipctl("--local vip list").await.good();
    assert_eq!(states(&list), ["silent", &format!("silent; {amiss}")]);
    node.memory.set_quorum(true);
    let validated = node.vipctl("validate").await;
    assert_eq!(validated.code, 1, "{validated:?}");
    assert!(
        validated.out.contains(&format!("vip/www: {amiss}")),
        "{validated:?}"
    );

    let file = |backend| {
        format!(
            "kind: vip\nname: new\nspec: {{mode: nat, ports: [{{port: 80}}], backends: [{{address: {backend}}}]}}\n"
        )
    };
    for (backend, family) in [("10.9.0.2", "ipv6"), ("fd09::2", "ipv4")] {
        let told = node.vipctl_stdin("validate -f -", &file(backend)).await;
        let amiss = format!("vip/new: it has no {family} backend");
        assert!(told.out.contains(&amiss), "{told:?}");
        assert_eq!(told.out.matches("vip/new").count(), 1, "{told:?}");
    }
}

#[tokio::test]
async fn each_backend_that_is_down_is_shown_with_its_reason() {
    let node = Node::start().await;
    node.vipctl("pool create web --block 10.0.0.10-10.0.0.20")
        .await
        .good();
    node.vipctl(
        "vip create www --families ipv4 --mode nat --port tcp/80 --health tcp --backend 10.9.0.1 --backend 10.9.0.2 \
         --backend 10.9.0.3:9090",
    )
    .await
    .good();
    let shown = node.vipctl("vip get www").await.good();
    assert!(
        shown.contains("! 2 of 3 backends down: 10.9.0.1 and 1 more"),
        "{shown}"
    );
    for (at, line) in [
        ("10.9.0.1", true),
        ("10.9.0.2", false),
        ("10.9.0.3:9090", true),
    ] {
        let mut lines = shown.lines();
        let down = |it: &str| {
            it.starts_with(&format!("  {at} is down for ")) && it.ends_with(": connection refused")
        };
        assert_eq!(lines.any(down), line, "{at}: {shown}");
    }
}
