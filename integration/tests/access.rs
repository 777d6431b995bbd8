//! Who may use the API: the socket by file permission, TLS by token.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::refused;
use vipd_integration::cluster::{Binaries, Cluster};
use vipd_integration::lab::Lab;

/// `vipctl` on the client, over TLS to n1.
fn over_tls(cluster: &Cluster, ca: &Path, token: &Path, args: &[&str]) -> Output {
    over_tls_to("https://10.77.0.1:7480", cluster, ca, token, args)
}

/// The same to another node.
fn over_tls_to(server: &str, cluster: &Cluster, ca: &Path, token: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(&cluster.binaries().vipctl);
    command.args(["--server", server, "--ca"]).arg(ca);
    command.arg("--token-file").arg(token).args(args);
    cluster.lab().client().run(&mut command).unwrap()
}

#[test]
fn the_api_over_tls_takes_its_tokens_and_nothing_else() {
    let cluster = Cluster::start(
        Lab::new(&["n1", "n2"]).unwrap(),
        Binaries::built().unwrap(),
        2,
    )
    .unwrap();
    let (data, stranger) = (cluster.node("n1").data(), cluster.lab().client().disk());
    let (ca, admin) = (data.join("ca.pem"), data.join("admin.token"));
    let file = |name: &str, content: &str| {
        let path = stranger.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };

    let done = over_tls(
        &cluster,
        &ca,
        &admin,
        &[
            "pool",
            "create",
            "web",
            "--block",
            "10.77.0.100-10.77.0.110",
        ],
    );
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );

    let wrong = file("wrong", "not-a-token\n");
    refused(
        "a wrong token",
        &over_tls(&cluster, &ca, &wrong, &["pool", "list"]),
        &["token"],
    );

    let made = over_tls(
        &cluster,
        &ca,
        &admin,
        &[
            "token", "create", "looker", "--access", "read", "-o", "json",
        ],
    );
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let reader = file("reader", made["token"].as_str().unwrap());
    assert!(
        over_tls(&cluster, &ca, &reader, &["pool", "list"])
            .status
            .success()
    );
    let write = [
        "vip",
        "create",
        "www",
        "--pool",
        "web",
        "--families",
        "ipv4",
    ];
    refused(
        "a reader that writes",
        &over_tls(&cluster, &ca, &reader, &write),
        &["read"],
    );

    let revoked = over_tls(&cluster, &ca, &admin, &["token", "delete", "looker"]);
    assert!(
        revoked.status.success(),
        "{}",
        String::from_utf8_lossy(&revoked.stderr)
    );
    refused(
        "a revoked token",
        &over_tls(&cluster, &ca, &reader, &["pool", "list"]),
        &["token"],
    );
}

/// Whichever node is asked, and however far behind it is: what reads as of now has seen the revocation, and what writes
/// comes after it.
#[test]
fn a_token_that_one_node_has_revoked_is_worth_nothing_on_the_others_from_then_on() {
    let names = ["n1", "n2", "n3"];
    let cluster = Cluster::start(Lab::new(&names).unwrap(), Binaries::built().unwrap(), 3).unwrap();
    let ca = cluster.node("n1").data().join("ca.pem");
    let secret = cluster.lab().client().disk().join("secret");
    for round in 0..4 {
        let name = format!("ci{round}");
        let create = ["token", "create", &name, "--access", "write"];
        let token = cluster.node("n1").vipctl(&create).unwrap();
        std::fs::write(&secret, token).unwrap();
        let servers = ["https://10.77.0.2:7480", "https://10.77.0.3:7480"];
        let pool = format!("p{round}");
        let block = format!("10.77.{}.0/24", 100 + round);
        for server in servers {
            let read = over_tls_to(server, &cluster, &ca, &secret, &["pool", "list"]);
            assert!(
                read.status.success(),
                "{}",
                String::from_utf8_lossy(&read.stderr)
            );
        }
        cluster
            .node("n1")
            .vipctl(&["token", "revoke", &name])
            .unwrap();
        for server in servers {
            let read = over_tls_to(server, &cluster, &ca, &secret, &["pool", "list"]);
            refused("a read with a revoked token", &read, &["token"]);
            let create = ["pool", "create", &pool, "--block", &block];
            let write = over_tls_to(server, &cluster, &ca, &secret, &create);
            refused("a write with a revoked token", &write, &["token"]);
        }
    }
    let pools = cluster.node("n2").vipctl(&["pool", "list"]).unwrap();
    assert_eq!(pools.lines().count(), 1, "nothing was written: {pools}");
    let events = cluster
        .node("n3")
        .vipctl(&["events", "--who", "uid/0"])
        .unwrap();
    assert!(events.contains("token ci3 revoked"), "{events}");
}

#[test]
fn secrets_and_the_socket_are_not_for_everybody() {
    let cluster =
        Cluster::start(Lab::new(&["n1"]).unwrap(), Binaries::built().unwrap(), 1).unwrap();
    let node = cluster.node("n1");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        mode(&node.socket()) & 0o007,
        0,
        "anybody may use {}",
        node.socket().display()
    );
    let mut open = vec![node.data()];
    while let Some(path) = open.pop() {
        let is_folder = path.is_dir();
        if is_folder {
            open.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
        // Certificates are no secret.
        if path.extension().is_none_or(|extension| extension != "pem") {
            assert_eq!(
                mode(&path) & 0o022,
                0,
                "others may write {}",
                path.display()
            );
        }
    }
    assert_eq!(
        mode(&node.data()) & 0o077,
        0,
        "others may look into {}",
        node.data().display()
    );
}
