//! Working with files that describe a site: `diff`, `validate`, `edit`, `wait`.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Node, Run};

const POOL: &str = "kind: pool\nname: web\nspec:\n  blocks:\n  - cidr: 10.0.0.0/28\n";
const VIP: &str = "kind: vip\nname: www\nspec: {pool: web, families: ipv4}\n";

async fn on_file(node: &Node, verb: &str, text: &str) -> Run {
    let file = node.file("site.yaml", text);
    node.vipctl(&format!("{verb} -f {}", file.display())).await
}

#[tokio::test]
async fn diff_shows_what_apply_would_change_and_says_so_by_its_exit_code() {
    let node = Node::start().await;
    let run = on_file(&node, "diff", POOL).await;
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{run:?}");
    assert!(
        run.out
            .starts_with("--- pool/web (nothing)\n+++ pool/web wanted\n"),
        "{}",
        run.out
    );
    assert!(
        run.out.contains("\n+  - cidr: 10.0.0.0/28\n"),
        "{}",
        run.out
    );
    on_file(&node, "apply", &format!("{POOL}---\n{VIP}"))
        .await
        .good();
    assert_eq!(
        on_file(&node, "diff", POOL).await.good(),
        "",
        "what the daemon fills in is no difference"
    );
    let other = VIP.replace("ipv4", "ipv4, addresses: [10.0.0.9]");
    let run = on_file(&node, "diff", &other).await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.out.contains("\n+  addresses:\n+  - 10.0.0.9\n"),
        "{}",
        run.out
    );
    assert!(
        run.out
            .contains("\n# 10.0.0.0 would be taken from vip/www\n"),
        "{}",
        run.out
    );
    assert!(!run.out.contains('\u{1b}'), "no colour where nobody looks");
    let run = on_file(&node, "diff", &POOL.replace("/28", "/99")).await;
    assert_eq!(run.code, 2, "it can't be told: {run:?}");
    assert!(run.err.contains("site.yaml:2: pool/web"), "{run:?}");
    assert_eq!(node.vipctl("diff -f /nonexistent.yaml").await.code, 2);
}

#[tokio::test]
async fn validate_finds_what_is_wrong_with_files_without_a_cluster() {
    let node = Node::start().await;
    let all = format!("{POOL}---\n{VIP}");
    let good = on_file(
        &node,
        "--server unix:/nonexistent.sock validate --offline",
        &all,
    )
    .await;
    assert_eq!(good.good(), "2 objects, nothing wrong with them\n");
    for (text, at, said) in [
        (
            all.replace("/28", "/99"),
            "site.yaml:2: pool/web",
            "\"10.0.0.0/99\"",
        ),
        (
            all.replace("cidr", "cdir"),
            "site.yaml:2: pool/web",
            "unknown field spec.blocks.0.cdir",
        ),
        (
            all.replace("ipv4", "both"),
            "site.yaml:8: vip/www",
            "unknown variant `both`",
        ),
        (
            all.replace("pool: web", "pool: wbe"),
            "site.yaml:8: vip/www",
            "there is no pool wbe",
        ),
        (
            all.replace("ipv4", "ipv6"),
            "site.yaml:8: vip/www",
            "no pool that serves it has ipv6 addresses",
        ),
        (
            all.replace("ipv4", "ipv4, addresses: [10.0.0.99]"),
            "site.yaml:8: vip/www",
            "no pool that serves it offers 10.0.0.99",
        ),
        (
            format!("{all}---\n{}", POOL.replace("web", "more")),
            "site.yaml:2: pool/web",
            "block 10.0.0.0/28 overlaps block 10.0.0.0/28 of pool/more (",
        ),
        (
            all.replace(
                "spec:\n  blocks",
                "spec:\n  selector: {match_labels: {tier: edge}}\n  blocks",
            ),
            "site.yaml:2: pool/web",
            "its selector selects no VIP",
        ),
        (
            format!(
                "{all}---\nkind: policy\nname: edge\nspec: {{vip_selector: {{match_labels: {{tier: edge}}}}}}\n"
            ),
            "site.yaml:12: policy/edge",
            "its vip_selector selects no VIP",
        ),
        (
            format!(
                "{}---\n{}---\n{}",
                all.replace("/28", "/31"),
                VIP.replace("www", "api"),
                VIP.replace("www", "mail")
            ),
            "site.yaml:2: pool/web",
            "3 VIPs can have their ipv4 address from web only, with 2 of them",
        ),
        (
            format!("{all}---\nkind: policy\nname: edge\nspec: {{interfaces: ['eth(']}}\n"),
            "site.yaml:12: policy/edge",
            "is no regular expression",
        ),
    ] {
        let run = on_file(
            &node,
            "--server unix:/nonexistent.sock validate --offline",
            &text,
        )
        .await;
        assert_eq!(run.code, 1, "{said}: {run:?}");
        let line = run.out.lines().find(|line| line.contains(said));
        assert!(
            line.is_some_and(|line| line.contains(at)),
            "{said}: {run:?}"
        );
        assert!(run.err.contains(" in "), "{run:?}");
    }
}

#[tokio::test]
async fn validate_looks_at_files_and_cluster_together() {
    let node = Node::start().await;
    let all = format!("{POOL}---\n{VIP}");
    on_file(&node, "apply", &all).await.good();
    assert_eq!(
        node.vipctl("validate").await.good(),
        "2 objects, nothing wrong with them\n"
    );
    for (text, said) in [
        (
            POOL.replace("web", "far").replace("10.0.0.0", "192.0.2.0"),
            "no node has an interface in a subnet of block 192.0.2.0/28",
        ),
        (
            POOL.replace("web", "twin"),
            "overlaps block 10.0.0.0/28 of pool/web (cluster)",
        ),
        (
            "kind: policy\nname: edge\nspec: {node_selector: {match_labels: {rack: z}}}\n"
                .to_owned(),
            "its node_selector selects no node",
        ),
        (
            "kind: policy\nname: edge\nspec: {interfaces: ['^bond0$']}\n".to_owned(),
            "its interfaces match none of any node",
        ),
        (
            VIP.replace("www", "Bad_Name"),
            "\"Bad_Name\" is not 1 to 63",
        ),
    ] {
        let run = on_file(&node, "validate", &text).await;
        assert_eq!(run.code, 1, "{said}: {run:?}");
        assert!(run.out.contains(said), "{said}: {run:?}");
    }
    // A VIP that names an interface is announced there: that excuses the pool that serves it, and no other.
    let far = POOL.replace("web", "far").replace("10.0.0.0", "192.0.2.0");
    for (pool, code) in [("web", 1), ("far", 0)] {
        let vip = format!(
            "kind: vip\nname: eth\nspec: {{pool: {pool}, families: ipv4, interface: eth0}}\n"
        );
        let run = on_file(&node, "validate", &format!("{far}---\n{vip}")).await;
        assert_eq!(run.code, code, "{pool}: {run:?}");
        assert_eq!(
            run.out.contains("nobody can announce it"),
            code == 1,
            "{pool}: {run:?}"
        );
    }
    // Nor does it excuse pools that it only could turn to.
    let far =
        format!("{far}---\nkind: vip\nname: eth\nspec: {{families: ipv4, interface: eth0}}\n");
    let run = on_file(&node, "validate", &far).await;
    assert!(run.out.contains("nobody can announce it"), "{run:?}");
    // What the file does not touch is another day's work.
    node.vipctl("vip create late --pool nope").await.good();
    on_file(&node, "validate", &all).await.good();
    let run = node.vipctl("validate -o json").await;
    assert_eq!(run.code, 1);
    let findings: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(findings[0]["object"], "vip/late");
    assert!(
        findings[0]["what"]
            .as_str()
            .unwrap()
            .contains("there is no pool nope"),
        "{findings}"
    );
}

/// An editor that is a script of these lines; `$1` is the file.
fn editor(node: &Node, lines: &str) {
    let path = node.file("editor", &format!("#!/bin/sh\nset -e\n{lines}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn edit(node: &Node, words: &str) -> Run {
    let editor = node.dir.path().join("editor").display().to_string();
    let dir = node.dir.path().display().to_string();
    let set = [
        ("EDITOR", editor.as_str()),
        ("TMPDIR", &dir),
        ("PATH", "/usr/bin:/bin"),
    ];
    common::run_with(&node.server(), words.split_whitespace(), "", &set).await
}

#[tokio::test]
async fn edit_writes_what_the_editor_left() {
    let node = Node::start().await;
    on_file(&node, "apply", POOL).await.good();
    editor(&node, "sed -i 's,/28,/27,' \"$1\"");
    assert_eq!(
        edit(&node, "pool edit web").await.good(),
        "pool/web changed\n"
    );
    assert!(
        node.vipctl("pool list")
            .await
            .good()
            .contains("10.0.0.0/27")
    );
    editor(&node, "true");
    assert_eq!(
        edit(&node, "pool edit web").await.good(),
        "pool/web unchanged\n"
    );
    editor(&node, "exit 3");
    let (what, _) = edit(&node, "pool edit web").await.refused();
    assert!(
        what.contains("exit status: 3; nothing was changed"),
        "{what}"
    );
    let (what, _) = edit(&node, "pool edit nope").await.refused();
    assert!(what.contains("no pool named nope"), "{what}");
}

#[tokio::test]
async fn what_is_refused_comes_back_with_the_reason_on_top_and_is_never_lost() {
    let node = Node::start().await;
    on_file(&node, "apply", POOL).await.good();
    let seen = node.dir.path().join("seen");
    // The first time it makes a slip; the second time it reads why, and mends it.
    let script = format!(
        "if grep -q 'error: block 10.0.0.1/28 has host bits' \"$1\"; then cp \"$1\" {}; sed -i 's,10.0.0.1/28,10.0.0.0/26,' \"$1\"; \
         else sed -i 's,10.0.0.0/28,10.0.0.1/28,' \"$1\"; fi",
        seen.display()
    );
    editor(&node, &script);
    assert_eq!(
        edit(&node, "pool edit web").await.good(),
        "pool/web changed\n"
    );
    assert!(std::fs::read_to_string(&seen).unwrap().contains("next: "));
    // One who does not mend it is not asked for ever, and finds his text again.
    editor(&node, "sed -i 's,10.0.0.0/26,10.0.0.9/26,' \"$1\"");
    let (what, next) = edit(&node, "pool edit web").await.refused();
    assert!(what.contains("host bits"), "{what}");
    let kept = next.split("your text is in ").nth(1).unwrap();
    let (kept, how) = kept.split_once(": ").unwrap();
    assert!(
        how.ends_with(&format!("vipctl pool apply -f {kept}")),
        "{how}"
    );
    assert!(
        std::fs::read_to_string(kept)
            .unwrap()
            .contains("10.0.0.9/26")
    );
    // What somebody else has changed meanwhile is not overwritten.
    let other = format!(
        "{} pool apply -f {}",
        env!("CARGO_BIN_EXE_vipctl"),
        node.file("other.yaml", &POOL.replace("/28", "/25"))
            .display()
    );
    editor(
        &node,
        &format!(
            "VIPD_SERVER={} {other} >/dev/null; sed -i 's,/26,/24,' \"$1\"",
            node.server()
        ),
    );
    let (what, next) = edit(&node, "pool edit web").await.refused();
    assert!(what.contains("web has changed"), "{what}");
    assert!(next.contains("your text is in "), "{next}");
    assert!(
        node.vipctl("pool list")
            .await
            .good()
            .contains("10.0.0.0/25")
    );
}

#[tokio::test]
async fn snapshot_and_restore_say_what_they_do() {
    let (node, other) = (Node::start().await, Node::start().await);
    node.web_and_www().await;
    let file = node.dir.path().join("backup.json");
    let saved = node
        .vipctl(&format!("cluster snapshot {}", file.display()))
        .await
        .good();
    assert!(
        saved.starts_with(
            "1 pool, 0 policies, 1 VIP with 2 addresses, 3 nodes, 0 tokens, as of revision"
        ),
        "{saved}"
    );
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        text.lines().count(),
        1,
        "blanks are half of a large one: {text}"
    );
    let restore = format!("cluster restore {}", file.display());
    let same = node.vipctl(&restore).await.good();
    assert_eq!(same, "nothing differs: the cluster is as the backup says\n");
    let would = other.vipctl(&format!("{restore} --dry-run")).await.good();
    let first: Vec<_> = would.lines().take(4).collect();
    assert_eq!(
        first,
        [
            "to be restored (dry run, nothing was changed):",
            "  pool web would be made",
            "  vip www would be made",
            "  10.0.0.10 would be given to vip/www, held by n1",
        ],
        "{would}"
    );
    let did = other.vipctl(&restore).await.good();
    assert!(
        did.starts_with("restored:\n  pool web made\n  vip www made\n  10.0.0.10 given to vip/www"),
        "{did}"
    );
    assert_eq!(
        other.vipctl("vip list").await.good(),
        node.vipctl("vip list").await.good()
    );
    let piped = node.vipctl("cluster snapshot -").await.good();
    other.vipctl_stdin("cluster restore -", &piped).await.good();
    let (what, next) = other
        .vipctl_stdin("cluster restore -", &piped.replace("\"www\"", "\"w3\""))
        .await
        .refused();
    assert!(what.contains("the backup's content has sha256:"), "{what}");
    assert!(next.contains("take the checksum out"), "{next}");
    // Also as people type it: vipctl cluster snapshot > FILE
    let unnamed = node.vipctl("cluster snapshot").await.good();
    other
        .vipctl_stdin("cluster restore - --dry-run", &unnamed)
        .await
        .good();
    let (what, _) = node
        .vipctl("cluster restore /nonexistent.json")
        .await
        .refused();
    assert!(what.contains("No such file"), "{what}");
}

#[tokio::test]
async fn wait_ends_when_it_is_so_or_says_what_is_missing() {
    let node = Node::start().await;
    on_file(&node, "apply", VIP).await.good();
    let (what, _) = node
        .vipctl("wait vip/www --for condition=satisfied --timeout 100ms")
        .await
        .refused();
    assert!(
        what.contains("vip/www: after 100ms it waits: there is no pool web"),
        "{what}"
    );
    let waiting = node.vipctl("wait vip/www pool/web --for condition=satisfied --timeout 20s");
    let making = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        on_file(&node, "apply", POOL).await.good();
    };
    let (told, ()) = tokio::join!(waiting, making);
    let (what, next) = told_of_pool(told);
    assert!(
        what.contains("pool/web has no condition satisfied"),
        "{what}"
    );
    assert!(next.contains("usable"), "{next}");
    for (words, said) in [
        ("vip/www --for condition=satisfied", "vip/www satisfied\n"),
        ("vip/www --for condition=held", "vip/www held\n"),
        ("vip/www --for condition=answering", "vip/www answering\n"),
        ("node/n1 --for condition=up", "node/n1 up\n"),
        (
            "node/n1 --for condition=no-drained",
            "node/n1 no longer drained\n",
        ),
        ("vip/nope --for delete", "vip/nope deleted\n"),
    ] {
        assert_eq!(node.vipctl(&format!("wait {words}")).await.good(), said);
    }
    // Whether it answers is known where it is held, so nobody waits for that elsewhere, but for what is on its way.
    node.vipctl("vip move www --to n2").await.good();
    for goal in ["answering", "no-answering"] {
        let words = format!("wait vip/www --for condition={goal}");
        let (what, next) = node.vipctl(&words).await.refused();
        assert_eq!(
            what,
            "vip/www: 10.0.0.0 is held by n2, and only that node knows whether it answers"
        );
        assert!(next.contains("on n2, or with --server"), "{next}");
    }
    node.memory.set_prompt(false);
    node.vipctl("vip move www --to n1 --wait 0").await.good();
    let (what, _) = node
        .vipctl("wait vip/www --for condition=answering --timeout 100ms")
        .await
        .refused();
    assert!(what.starts_with("vip/www: after 100ms "), "{what}");
    let (what, _) = node
        .vipctl("wait vip/www --for delete --timeout 100ms")
        .await
        .refused();
    assert!(what.contains("it is still there"), "{what}");
    assert_eq!(node.vipctl("wait www --for delete").await.code, 2);
    assert_eq!(node.vipctl("wait vip/www --for satisfied").await.code, 2);
}

/// The VIP came, and the pool has no such condition.
fn told_of_pool(run: Run) -> (String, String) {
    assert_eq!(
        (run.code, run.out.as_str()),
        (1, "vip/www satisfied\n"),
        "{run:?}"
    );
    let lines: Vec<_> = run.err.lines().map(str::to_owned).collect();
    (lines[0].clone(), lines[1].clone())
}
