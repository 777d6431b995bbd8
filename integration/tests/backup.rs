//! Backup and restore of a running cluster, and who did it: what stays is not interrupted, nothing has two holders, every
//! node tells the same.
//!
//! Real daemons, real kernels; the judge is the sniffer on the switch. Needs root and
//! `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use vipd_integration::cluster::{Api, Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::Lab;
use vipd_integration::probe::Gap;
use vipd_integration::{Bench, GRACE, Stamp, Turn};

/// Longest time without an answer for what stays: a busy machine loses a packet now and then.
const UNNOTICED: Duration = Duration::from_millis(100);
/// How long the wire is listened to after everything is over.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Addresses by VIP, and whether somebody holds each.
fn given(cluster: &Cluster) -> Vec<(String, IpAddr, bool)> {
    let states = cluster.addresses().unwrap().into_iter();
    let mut given: Vec<_> = states
        .map(|state| (state.vip, state.address, state.holder.is_some()))
        .collect();
    given.sort();
    given
}

fn vipctl(cluster: &Cluster, node: &str, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    cluster.node(node).vipctl(&words).unwrap()
}

#[test]
fn a_restore_gives_back_what_was_and_does_not_disturb_what_stays() {
    let _turn = Turn::wait().unwrap();
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    vipctl(
        &cluster,
        "n1",
        "pool create web --block 10.77.0.100-10.77.0.103",
    );
    for vip in ["stays", "goes", "moves"] {
        vipctl(&cluster, "n1", &format!("vip create {vip} --families ipv4"));
    }
    let before = given(&cluster);
    let addresses = before.iter().map(|(_, address, _)| *address).collect();
    let bench = Bench::watch(cluster, addresses).unwrap();
    let cluster = bench.cluster();
    let file = cluster.lab().client().disk().join("site.json");
    let file = file.to_str().unwrap();
    let saved = vipctl(cluster, "n2", &format!("cluster snapshot {file}"));
    assert!(saved.contains("3 VIPs with 3 addresses"), "{saved}");

    // One VIP goes, and its address is taken by another one; a third is made.
    vipctl(cluster, "n1", "vip delete goes");
    let thief = wait("the address is given anew", PATIENCE, || {
        let free = cluster.addresses()?.len() == 2;
        Ok(free.then_some(()))
    });
    thief.unwrap();
    let lost = before.iter().find(|(vip, ..)| vip == "goes").unwrap().1;
    vipctl(cluster, "n1", &format!("vip create thief --address {lost}"));
    vipctl(cluster, "n1", "vip create more --families ipv4");
    let stays = before.iter().find(|(vip, ..)| vip == "stays").unwrap().1;
    let holder = cluster.holder(stays).unwrap().name().to_owned();
    for (probe, address) in bench.probes().iter().zip(bench.addresses()) {
        let holder = cluster.holder(*address).unwrap().name();
        probe.wait_for(holder, Stamp::now(), PATIENCE).unwrap();
    }
    sleep(GRACE);

    let from = Stamp::now();
    let did = vipctl(cluster, "n3", &format!("cluster restore {file}"));
    assert!(
        did.contains("vip goes made") && did.contains("vip more, thief deleted"),
        "{did}"
    );
    wait("everybody has what he had", PATIENCE, || {
        Ok((given(cluster) == before).then_some(()))
    })
    .unwrap();
    sleep(AFTERMATH);
    assert_eq!(cluster.holder(stays).unwrap().name(), holder);
    let longest = bench.outages(from).iter().map(Gap::length).max().unwrap();
    eprintln!(
        "restore: the longest that a client of an address that stays had no answer is {longest:?}"
    );
    assert!(longest < UNNOTICED, "{:?}", bench.outages(from));
    let again = vipctl(cluster, "n1", &format!("cluster restore {file}"));
    assert!(again.contains("nothing differs"), "{again}");
    bench.ensure_never_two().unwrap();

    // Into a cluster of its own, which is empty.
    let backup = std::fs::read(file).unwrap();
    drop(bench);
    let lab = Lab::new(&["m1", "m2"]).unwrap();
    let other = Cluster::start(lab, Binaries::built().unwrap(), 2).unwrap();
    let file = other.lab().client().disk().join("site.json");
    std::fs::write(&file, backup).unwrap();
    let restore = format!("cluster restore {}", file.display());
    vipctl(&other, "m1", &restore);
    let there = wait("every address has a holder there", PATIENCE, || {
        let there = given(&other);
        Ok((there == before).then_some(there))
    });
    there.unwrap();
}

/// The events of a node, by its own copy of the state.
fn events(api: &Api) -> Vec<Value> {
    let events = api.get("/v1/events?consistency=local").unwrap();
    events["items"].as_array().unwrap().clone()
}

#[test]
fn every_node_tells_who_did_it_also_after_its_leader_is_gone() {
    let cluster = Cluster::start(
        Lab::new(&["n1", "n2", "n3"]).unwrap(),
        Binaries::built().unwrap(),
        3,
    )
    .unwrap();
    let leader = cluster.leader().unwrap();
    let names = ["n1", "n2", "n3"];
    let asked = names.into_iter().find(|name| *name != leader).unwrap();
    vipctl(
        &cluster,
        asked,
        "pool create web --block 10.77.0.100-10.77.0.103",
    );
    let body = json!({ "spec": { "families": "ipv4" } });
    cluster
        .node(asked)
        .api()
        .put("/v1/vips/www", &body)
        .unwrap();
    let told = |events: &[Value], what: &str| {
        let event = events.iter().find(|event| event["message"] == what);
        event.is_some_and(|event| event["who"] == "uid/0" && event["via"] == asked)
    };
    cluster.node(&leader).kill9().unwrap();
    wait("another one leads, and takes writes", PATIENCE, || {
        let api = cluster.node(asked).api();
        Ok(api.put("/v1/vips/later", &body).ok())
    })
    .unwrap();
    for name in names.into_iter().filter(|name| *name != leader) {
        let api = cluster.node(name).api();
        wait("the node tells who did it", PATIENCE, || {
            let events = events(&api);
            let all = ["pool web set", "VIP www set", "VIP later set"];
            Ok(all.iter().all(|what| told(&events, what)).then_some(()))
        })
        .unwrap();
    }
}
