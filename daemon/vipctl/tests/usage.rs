//! Exit codes, errors, completions and man pages.
#![allow(clippy::unwrap_used)]

mod common;

use common::Node;

#[tokio::test]
async fn refusals_are_one_line_and_the_next_step() {
    let node = Node::start().await;
    node.web_and_www().await;
    for (words, said) in [
        (
            "pool create b --block 10.0.0.1/24",
            "block 10.0.0.1/24 has host bits set: write 10.0.0.0/24",
        ),
        (
            "pool create b --block 10.0.0.9-10.0.0.1",
            "ends before it starts",
        ),
        (
            "pool create b --strict --block 10.0.0.15",
            "overlaps block 10.0.0.10-10.0.0.20 of pool web",
        ),
        (
            "pool create web --block 10.0.9.0/24",
            "pool web exists already",
        ),
        ("pool create b --block ten", "block \"ten\" is not a prefix"),
        ("pool delete web", "pool web has 2 live allocations"),
        ("vip get nope", "no VIP named nope"),
        ("vip move nope --to n2", "no VIP named nope"),
        ("vip move www --to nope", "no node named nope"),
        ("node drain nope", "no node named nope"),
        (
            "token create Bad_Name",
            "\"Bad_Name\" is not 1 to 63 of a-z",
        ),
    ] {
        let (what, next) = node.vipctl(words).await.refused();
        assert!(what.contains(said), "{words}: {what}");
        assert!(!next.is_empty(), "{words}");
    }
}

#[tokio::test]
async fn a_vip_that_has_to_wait_is_made_and_says_for_what() {
    let node = Node::start().await;
    node.web_and_www().await;
    for (words, said) in [
        (
            "vip create b --address 10.0.0.99",
            "address 10.0.0.99 is in no pool",
        ),
        ("vip create c --address 10.0.0.10", "belongs to VIP www"),
        (
            "vip create d --pool nope",
            "it waits: there is no pool nope\n",
        ),
        (
            "pool create young --block 10.0.0.15",
            "overlaps block 10.0.0.10-10.0.0.20 of the older pool web",
        ),
    ] {
        let told = node.vipctl(words).await.good();
        assert!(told.contains(said), "{words}: {told}");
    }
}

#[tokio::test]
async fn usage_errors_exit_2() {
    let node = Node::start().await;
    for words in [
        "",
        "pool",
        "pool create",
        "vip create a --families both",
        "node frobnicate n1",
        "status --interval 100",
        "vip move www --to n2 --if-revision 1",
        "node drain n1 --if-revision 1",
        "vip create a --if-revision 1",
    ] {
        let run = node.vipctl(words).await;
        assert_eq!(run.code, 2, "{words}: {run:?}");
        assert!(
            run.out.is_empty() && !run.err.is_empty(),
            "{words}: {run:?}"
        );
    }
    assert_eq!(node.vipctl("--help").await.code, 0);
    assert!(
        node.vipctl("--version")
            .await
            .good()
            .starts_with("vipctl 0.")
    );
}

#[tokio::test]
async fn without_a_daemon_it_says_how_to_get_one() {
    let run = common::run(
        "unix:/nonexistent/api.sock",
        "status".split_whitespace(),
        "",
    )
    .await;
    let (what, next) = run.refused();
    assert!(
        what.starts_with("cannot reach vipd at unix:/nonexistent/api.sock"),
        "{what}"
    );
    assert!(next.contains("systemctl start vipd"), "{next}");
    let (what, _) = common::run("http://127.0.0.1:1", "status".split_whitespace(), "")
        .await
        .refused();
    assert!(what.contains("never sent in the clear"), "{what}");
}

#[tokio::test]
async fn completions_and_man_pages_come_from_the_same_definition() {
    let node = Node::start().await;
    for shell in ["bash", "zsh", "fish"] {
        let text = node.vipctl(&format!("completions {shell}")).await.good();
        assert!(text.contains("vipctl") && text.contains("drain"), "{shell}");
    }
    let dir = node.dir.path().join("man");
    node.vipctl(&format!("man {}", dir.display())).await.good();
    for page in [
        "vipctl.1",
        "vipctl-vip-move.1",
        "vipctl-pool-create.1",
        "vipctl-node-drain.1",
    ] {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}

#[tokio::test]
async fn a_watch_goes_on_until_its_reader_is_gone() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};
    let node = Node::start().await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_vipctl"));
    command
        .args(["status", "--watch", "--interval", "20", "-o", "json"])
        .env("VIPD_SERVER", node.server());
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    while seen < 3 {
        let line = lines.next_line().await.unwrap().expect("it goes on");
        seen += usize::from(line.contains("\"answered_by\""));
    }
    drop(lines);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), child.wait()).await;
    assert_eq!(ended.expect("it ends").unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_name_that_is_not_known_is_answered_with_the_nearest_and_the_one_list_to_look_at() {
    let node = common::Node::start().await;
    node.web_and_www().await;
    for (words, next) in [
        (
            "pool get wbe",
            "did you mean web? else see what there is: vipctl pool list",
        ),
        (
            "vip get ww",
            "did you mean www? else see what there is: vipctl vip list",
        ),
        ("vip get mail", "see what there is: vipctl vip list"),
        (
            "node get n4",
            "did you mean n1? else see what there is: vipctl node list",
        ),
        ("policy get edge", "see what there is: vipctl policy list"),
    ] {
        assert_eq!(node.vipctl(words).await.refused().1, next, "{words}");
    }
    let peers = common::run("https://127.0.0.1:7400", ["vip", "list"].into_iter(), "").await;
    assert!(peers.refused().1.contains("port 7400 is for peers"));
    let label = node.vipctl("node set n1 --label rack-").await;
    assert!(
        label.err.contains("vipctl node set NODE --unlabel rack"),
        "{label:?}"
    );
}
