//! One daemon and its surroundings: what it needs, what it says when it does not have it.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{clear, refused};
use vipd_integration::cluster::{Api, Binaries, Node, PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};

/// Runs `vipd run` to its end, which must come by itself; what it said last on stderr.
fn run_in_vain(host: &Host, binaries: &Binaries, config: &Path) -> String {
    run_in_vain_as(
        host,
        Command::new(&binaries.vipd)
            .arg("run")
            .arg("--config")
            .arg(config),
    )
}

fn run_in_vain_as(host: &Host, command: &mut Command) -> String {
    let name = "in-vain";
    host.spawn(name, command).unwrap();
    let status = host.process(name, |p| p.wait(PATIENCE)).unwrap();
    assert_eq!(
        status.code(),
        Some(1),
        "{}",
        host.process(name, |p| Ok(p.tail(20))).unwrap()
    );
    // The lines before are a log; the last one is said to a person.
    let log = host
        .process(name, |p| Ok(fs::read_to_string(p.log())?))
        .unwrap();
    fs::remove_file(host.process(name, |p| Ok(p.log().to_owned())).unwrap()).unwrap();
    let last = log.lines().rfind(|line| line.starts_with("vipd: "));
    last.unwrap_or_else(|| panic!("no line begins with \"vipd: \" in:\n{log}"))
        .to_owned()
}

#[test]
fn a_daemon_without_any_config_is_a_working_single_node_cluster() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let n1 = lab.host("n1");
    let data = n1.disk().join("data");
    // The socket and the pins of the machine itself stay out of it: they come by the environment of
    // a namespace of mounts, as on a machine of its own.
    let script = "mount -t tmpfs tmpfs /run && mount -t bpf bpf /sys/fs/bpf && exec \"$0\" run --data-dir \"$1\"";
    n1.spawn(
        "vipd",
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(&binaries.vipd)
            .arg(&data),
    )
    .unwrap();
    let root = PathBuf::from(format!(
        "/proc/{}/root",
        n1.process("vipd", |p| Ok(p.pid())).unwrap()
    ));
    let socket = root.join("run/vipd/api.sock");
    let vipctl = |args: &[&str]| {
        let server = format!("unix:{}", socket.display());
        n1.run(
            Command::new(&binaries.vipctl)
                .args(["--server", &server])
                .args(args),
        )
        .unwrap()
    };
    wait(
        "the API answers where vipctl looks for it",
        PATIENCE,
        || Api::new(&socket).get("/readyz").map(Some),
    )
    .unwrap();
    for line in [
        "pool create web --block 10.77.0.100-10.77.0.110",
        "vip create www --pool web --families ipv4",
    ] {
        let done = vipctl(&line.split(' ').collect::<Vec<_>>());
        assert!(
            done.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    n1.serve().unwrap();
    let probe = vipd_integration::probe::Probe::start(lab.client(), "10.77.0.100".parse().unwrap())
        .unwrap();
    probe
        .wait_for("n1", vipd_integration::Stamp::default(), PATIENCE)
        .unwrap();
}

#[test]
fn a_second_init_over_data_is_refused_and_the_data_stays() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let node = Node::new(lab.host("n1"), &binaries);
    node.init().unwrap();
    let config = fs::read_to_string(node.config()).unwrap();
    refused(
        "a second init",
        &node.try_init().unwrap(),
        &[&node.data().display().to_string()],
    );
    assert_eq!(fs::read_to_string(node.config()).unwrap(), config);
    node.run().unwrap();
}

#[test]
fn a_config_with_a_mistake_is_refused_with_file_and_line() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let node = Node::new(lab.host("n1"), &binaries);
    node.init().unwrap();
    let good = fs::read_to_string(node.config()).unwrap();
    let path = node.config().display().to_string();
    let check = || node.vipd(&["check", "--config", &path]).unwrap();
    assert!(
        check().status.success(),
        "{}",
        String::from_utf8_lossy(&check().stderr)
    );

    for (mistake, words) in [
        (
            "[cluster]\nlisten_on = \"10.77.0.1:7400\"\n",
            &["vipd.toml:2", "listen_on"][..],
        ),
        ("[claster]\n", &["vipd.toml:1", "claster"]),
        ("[cluster]\nlisten = \"ten\"\n", &["vipd.toml:2", "IP:PORT"]),
        (
            "[lease]\n\nprofile = \"quick\"\n",
            &["vipd.toml:3", "quick", "lan"],
        ),
        (
            "[announce]\ninterfaces = [\"eth[\"]\n",
            &["vipd.toml:2", "interfaces"],
        ),
        ("[node\n", &["vipd.toml:1"]),
    ] {
        fs::write(node.config(), mistake).unwrap();
        refused(&format!("check of {mistake:?}"), &check(), words);
        clear(
            &format!("run with {mistake:?}"),
            &run_in_vain(lab.host("n1"), &binaries, &node.config()),
            words,
        );
    }
    fs::remove_file(node.config()).unwrap();
    refused("check of no file", &check(), &[&path]);
    fs::write(node.config(), good).unwrap();
    node.run().unwrap();
}

#[test]
fn a_port_in_use_is_named() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let (n1, node) = (lab.host("n1"), Node::new(lab.host("n1"), &binaries));
    node.init().unwrap();
    for port in [7400, 7480] {
        let taken = n1
            .netns()
            .unwrap()
            .enter(|| Ok(TcpListener::bind((n1.v4(), port))?))
            .unwrap();
        let said = run_in_vain(n1, &binaries, &node.config());
        clear(
            "a port in use",
            &said,
            &[&format!("10.77.0.1:{port}"), "in use"],
        );
        drop(taken);
    }
    node.run().unwrap();
    // A second daemon over the same data.
    clear(
        "a second daemon",
        &run_in_vain(n1, &binaries, &node.config()),
        &["vipd"],
    );
    node.vipctl(&["pool", "list"]).unwrap();
}

#[test]
fn a_missing_capability_is_named_with_the_way_to_give_it() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let (n1, node) = (lab.host("n1"), Node::new(lab.host("n1"), &binaries));
    node.init().unwrap();
    for (dropped, named) in [
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-net_admin,-sys_admin", "CAP_NET_ADMIN"),
    ] {
        let said = run_in_vain_as(
            n1,
            Command::new("setpriv")
                .args(["--bounding-set", dropped, "--inh-caps", dropped])
                .arg(&binaries.vipd)
                .arg("run")
                .arg("--config")
                .arg(node.config()),
        );
        clear("a missing capability", &said, &[named]);
    }
}

#[test]
fn a_full_disk_ends_the_daemon_with_a_clear_word_and_loses_nothing() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let (n1, node) = (lab.host("n1"), Node::new(lab.host("n1"), &binaries));
    n1.small_disk(64).unwrap();
    node.init().unwrap();
    node.run().unwrap();
    node.vipctl(&[
        "pool",
        "create",
        "before",
        "--block",
        "10.77.0.100-10.77.0.110",
    ])
    .unwrap();

    let ballast = n1.disk().join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    drop(file);
    // Write until the store has to grow; the write that fails must fail, not hang.
    let weight: BTreeMap<String, String> = (0..60)
        .map(|n| (format!("weight-{n}"), "x".repeat(1000)))
        .collect();
    let failed = (0..500).find_map(|k| {
        let pool = serde_json::json!({
            "name": format!("p{k}"),
            "labels": weight,
            "spec": { "blocks": [{ "start": format!("10.78.{}.{}", k / 250, k % 250) }] },
        });
        node.api().within(PATIENCE).post("/v1/pools", &pool).err()
    });
    let failed = failed.expect("the store never had to grow");
    eprintln!("the request that failed said: {failed:#}");
    assert!(!failed.to_string().contains("HTTP 4"), "{failed:#}");
    n1.process("vipd", |p| p.wait(PATIENCE)).unwrap();
    let log = node.log_tail(10).to_lowercase();
    assert!(
        log.contains("no space") || log.contains("disk is full"),
        "{log}"
    );

    fs::remove_file(&ballast).unwrap();
    node.run().unwrap();
    assert!(node.vipctl(&["pool", "list"]).unwrap().contains("before"));
}

#[test]
fn a_corrupt_store_is_refused_each_time() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let (n1, node) = (lab.host("n1"), Node::new(lab.host("n1"), &binaries));
    node.init().unwrap();
    node.run().unwrap();
    for k in 100..140 {
        let (name, block) = (format!("p{k}"), format!("10.77.0.{k}-10.77.0.{k}"));
        node.vipctl(&["pool", "create", &name, "--block", &block])
            .unwrap();
    }
    node.kill9().unwrap();
    let store = largest_file(&node.data());
    damage(&store);

    // Not only the first time: sled mends its own file when it opens it, but what was acknowledged
    // is still missing, and that is not forgotten.
    for start in ["first", "second"] {
        let said = run_in_vain(n1, &binaries, &node.config());
        clear(
            &format!("a corrupt store, {start} start"),
            &said,
            &[&node.data().display().to_string()],
        );
    }
}

/// Turns a stretch in the middle of what was written into nonsense.
fn damage(path: &Path) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let used = bytes.iter().rposition(|&b| b != 0).unwrap();
    let from = used / 2;
    let nonsense: Vec<u8> = bytes[from..used.min(from + 4096)]
        .iter()
        .map(|b| !b)
        .collect();
    file.seek(SeekFrom::Start(from as u64)).unwrap();
    file.write_all(&nonsense).unwrap();
}

fn largest_file(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.metadata().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else {
                found.push((kind.len(), entry.path()));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn a_daemon_that_is_asked_to_end_ends_quickly_and_leaves_no_address_behind() {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let node = Node::new(lab.host("n1"), &binaries);
    node.init().unwrap();
    node.run().unwrap();
    node.vipctl(&[
        "pool",
        "create",
        "web",
        "--block",
        "10.77.0.100-10.77.0.110",
    ])
    .unwrap();
    node.vipctl(&[
        "vip",
        "create",
        "www",
        "--pool",
        "web",
        "--families",
        "ipv4",
    ])
    .unwrap();
    let shown = || {
        let done = lab
            .host("n1")
            .run(Command::new("ip").args(["addr", "show"]))
            .unwrap();
        String::from_utf8(done.stdout)
            .unwrap()
            .contains("10.77.0.100/32")
    };
    wait("the address is on the interface", PATIENCE, || {
        Ok(shown().then_some(()))
    })
    .unwrap();
    node.stop(Duration::from_secs(10)).unwrap();
    assert!(!shown());
}
