//! `apply -f` and dry runs.
#![allow(clippy::unwrap_used)]

mod common;

use common::Node;

const FILE: &str = "\
kind: vip
name: www
spec: {pool: web, families: require_dual}
---
kind: pool
name: web
labels: {team: a}
spec:
  blocks:
  - cidr: 10.0.0.0/28
  - {start: 'fd00::10', stop: 'fd00::20'}
";

#[tokio::test]
async fn a_file_makes_pools_before_vips_and_can_be_applied_again() {
    let node = Node::start().await;
    let file = node.file("all.yaml", FILE);
    let apply = format!("apply -f {}", file.display());
    assert_eq!(
        node.vipctl(&apply).await.good(),
        "pool/web created\nvip/www created\n"
    );
    assert_eq!(
        node.vipctl(&apply).await.good(),
        "pool/web unchanged\nvip/www unchanged\n"
    );
    node.file("all.yaml", &FILE.replace("10.0.0.0/28", "10.0.0.0/27"));
    assert_eq!(
        node.vipctl(&apply).await.good(),
        "pool/web changed\nvip/www unchanged\n"
    );
    assert_eq!(
        node.vipctl_stdin("apply -f -", FILE).await.good(),
        "pool/web changed\nvip/www unchanged\n"
    );
}

#[tokio::test]
async fn what_was_listed_can_be_applied_elsewhere() {
    let (here, there) = (Node::start().await, Node::start().await);
    here.web_and_www().await;
    let pools = here.vipctl("pool list -o yaml").await.good();
    let vips = here.vipctl("vip list -o json").await.good();
    assert_eq!(
        there.vipctl_stdin("pool apply -f -", &pools).await.good(),
        "pool/web created\n"
    );
    assert_eq!(
        there.vipctl_stdin("vip apply -f -", &vips).await.good(),
        "vip/www created\n"
    );
}

#[tokio::test]
async fn a_slip_is_named_with_file_line_and_object() {
    let node = Node::start().await;
    for (text, said) in [
        (
            FILE.replace("kind: pool", "kind: pod"),
            "slip.yaml: document 2:",
        ),
        (
            FILE.replace("team: a", "team: [a"),
            "slip.yaml: document 2:",
        ),
        (String::new(), "slip.yaml: nothing in it"),
        (
            FILE.replace("kind: vip", "kind: pool")
                .replace("www", "web"),
            "slip.yaml:6: pool/web is described at",
        ),
    ] {
        let file = node.file("slip.yaml", &text);
        let (what, next) = node
            .vipctl(&format!("apply -f {}", file.display()))
            .await
            .refused();
        assert!(what.contains(said), "{what}");
        assert!(!next.is_empty());
        assert_eq!(
            node.vipctl("pool list").await.good().lines().count(),
            1,
            "{what}"
        );
    }
    let (what, _) = node.vipctl("apply -f /nonexistent.yaml").await.refused();
    assert!(
        what.starts_with("/nonexistent.yaml: No such file"),
        "{what}"
    );
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_line_and_the_rest_is_applied() {
    let node = Node::start().await;
    for (text, said) in [
        (
            FILE.replace("blocks:", "blokcs:"),
            "site.yaml:6: pool/web: unknown field spec.blokcs",
        ),
        (
            FILE.replace("10.0.0.0/28", "10.0.0.1/28"),
            "site.yaml:6: pool/web: block 10.0.0.1/28 has host bits set",
        ),
    ] {
        let file = node.file("site.yaml", &text);
        let run = node.vipctl(&format!("apply -f {}", file.display())).await;
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.out.starts_with("vip/www "), "{run:?}");
        let lines: Vec<_> = run.err.lines().collect();
        assert!(lines[0].contains(said), "{run:?}");
        assert_eq!(
            lines[2], "error: 1 of 2 objects were refused: pool/web",
            "{run:?}"
        );
    }
    assert_eq!(node.vipctl("pool list").await.good().lines().count(), 1);
}

#[tokio::test]
async fn a_directory_is_all_its_files_and_a_daemon_out_of_reach_is_told_once() {
    let node = Node::start().await;
    std::fs::create_dir(node.dir.path().join("site")).unwrap();
    let (vip, pool) = FILE.split_once("---\n").unwrap();
    node.file("site/a.yaml", vip);
    node.file("site/b.yml", pool);
    node.file("site/README", "no object");
    let site = node.dir.path().join("site");
    let apply = format!("apply -f {}", site.display());
    assert_eq!(
        node.vipctl(&apply).await.good(),
        "pool/web created\nvip/www created\n"
    );
    let run = common::run("unix:/nonexistent.sock", apply.split_whitespace(), "").await;
    let (what, _) = run.refused();
    assert!(what.contains("cannot reach vipd"), "{what}");
    std::fs::create_dir(node.dir.path().join("empty")).unwrap();
    let empty = node.dir.path().join("empty");
    let (what, _) = node
        .vipctl(&format!("apply -f {}", empty.display()))
        .await
        .refused();
    assert!(what.contains("no file in it ends in .yaml"), "{what}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let node = Node::start().await;
    node.web_and_www().await;
    let before = node.vipctl("vip list -o json").await.good();
    let told = node
        .vipctl("vip create more --pool web --families ipv4 --dry-run")
        .await
        .good();
    assert_eq!(
        told,
        "vip/more would be set (dry run, nothing was changed)\n  10.0.0.11 would be given to vip/more, held by n2\n"
    );
    let told = node.vipctl("node drain n1 --dry-run").await.good();
    assert!(
        told.contains("10.0.0.10 of vip/www would move from n1 to n2"),
        "{told}"
    );
    let told = node.vipctl("vip delete www --dry-run").await.good();
    assert!(
        told.contains("vip/www would be gone") && told.contains("fd00::10 would be taken"),
        "{told}"
    );
    let told = node
        .vipctl("vip move www --to n3 --dry-run -o json")
        .await
        .good();
    assert!(told.contains("\"dry_run\": true"), "{told}");
    let told = node
        .vipctl_stdin("apply --dry-run -f -", &FILE.replace("web", "other"))
        .await
        .good();
    assert!(
        told.contains("10.0.0.10 would be taken from vip/www"),
        "it says what the real one would do: {told}"
    );
    assert_eq!(node.vipctl("vip list -o json").await.good(), before);
}

#[tokio::test]
async fn a_write_on_an_older_revision_is_refused() {
    let node = Node::start().await;
    node.web_and_www().await;
    let (what, next) = node
        .vipctl("vip delete www --if-revision 1")
        .await
        .refused();
    assert!(
        what.contains("www has changed: it is at revision"),
        "{what}"
    );
    assert!(next.contains("read it again"), "{next}");
}
