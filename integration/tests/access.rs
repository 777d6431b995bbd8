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
    let mut command = Command::new(&cluster.binaries().vipctl);
    command
        .args(["--server", "https://10.77.0.1:7480", "--ca"])
        .arg(ca);
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
