//! A group moves, fails over, fails back after its delay, and the cluster is rebalanced: never two, and hardly a gap.
//!
//! Real daemons, real kernels; the judge is the sniffer on the switch. Needs root and
//! `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vipd_integration::cluster::{Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::Lab;
use vipd_integration::probe::Gap;
use vipd_integration::{Bench, GRACE, Stamp, Turn};

/// Longest time without an answer when a holder is lost without a word (debug build, busy machine).
const CRASH: Duration = Duration::from_millis(500);
/// The same for a planned move.
const PLANNED: Duration = Duration::from_millis(100);
/// How long the group's home must have been up before the group returns.
const DELAY: Duration = Duration::from_secs(2);
/// How long the wire is listened to after everything is over.
const AFTERMATH: Duration = Duration::from_secs(1);

/// The VIPs `in` and `out`, which are one group, and four single ones.
fn cluster() -> Cluster {
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    let vipctl = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        cluster.vipctl(&words).unwrap();
    };
    vipctl("pool create web --block 10.77.0.100-10.77.0.119");
    for vip in ["in", "out"] {
        vipctl(&format!(
            "vip create {vip} --families ipv4 --group gw --failback after:{}s",
            DELAY.as_secs()
        ));
    }
    for i in 0..4 {
        vipctl(&format!("vip create v{i} --families ipv4"));
    }
    cluster
}

fn addresses(cluster: &Cluster, of: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let states = cluster.addresses().unwrap().into_iter();
    let mut found: Vec<IpAddr> = states.filter(|s| of(&s.vip)).map(|s| s.address).collect();
    found.sort();
    found
}

/// How many addresses the nodes hold that hold any, the least first.
fn loads(cluster: &Cluster) -> Vec<usize> {
    let mut loads: BTreeMap<String, usize> = BTreeMap::new();
    for state in cluster.addresses().unwrap() {
        *loads.entry(state.holder.unwrap()).or_default() += 1;
    }
    let mut loads: Vec<usize> = loads.into_values().collect();
    loads.sort_unstable();
    loads
}

/// Nobody waited longer than `limit` since `from`.
fn hardly_noticed(bench: &Bench, what: &str, from: Stamp, limit: Duration) {
    sleep(AFTERMATH);
    let outages = bench.outages(from);
    let longest = outages.iter().map(Gap::length).max().unwrap();
    eprintln!("{what}: the longest that a client had no answer is {longest:?}");
    assert!(longest < limit, "{what}: {outages:?}");
}

#[test]
fn a_group_moves_fails_over_and_returns_as_one_and_the_rest_is_rebalanced() {
    let _turn = Turn::wait().unwrap();
    let cluster = cluster();
    let group = addresses(&cluster, |vip| ["in", "out"].contains(&vip));
    let all = addresses(&cluster, |_| true);
    let bench = Bench::watch(cluster, all).unwrap();
    let cluster = bench.cluster();
    let on = |what: &str, wanted: &dyn Fn(&str) -> bool| -> String {
        let holder = cluster.wait_for_holder(&group, what, wanted).unwrap();
        holder.name().to_owned()
    };
    for (probe, address) in bench.probes().iter().zip(bench.addresses()) {
        let holder = cluster.holder(*address).unwrap().name();
        probe.wait_for(holder, Stamp::now(), PATIENCE).unwrap();
    }
    sleep(GRACE);

    // One of the two is moved; both go.
    let first = on("the group has one holder", &|_| true);
    let home = ["n1", "n2", "n3"]
        .into_iter()
        .find(|n| *n != first)
        .unwrap();
    let from = Stamp::now();
    cluster
        .vipctl(&["vip", "move", "in", "--to", home])
        .unwrap();
    on("the group was moved", &|name| name == home);
    hardly_noticed(&bench, "move of a group", from, PLANNED);

    // Its holder is lost; both fail over to one node, the one that was foretold.
    let plan = cluster.ask(&format!("/v1/plan?without={home}")).unwrap();
    let foretold: Vec<&str> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| ["in", "out"].iter().any(|vip| change["vip"] == *vip))
        .filter_map(|change| change["to"].as_str())
        .collect();
    let from = Stamp::now();
    cluster.lab().host(home).power_off().unwrap();
    let refuge = on("the group failed over", &|name| name != home);
    assert_eq!(foretold, [refuge.as_str(), refuge.as_str()]);
    hardly_noticed(&bench, "loss of the group's holder", from, CRASH);

    // It comes back; the group returns, not before the delay is over.
    let from = Stamp::now();
    let began = Instant::now();
    cluster.lab().host(home).power_on().unwrap();
    cluster.node(home).run().unwrap();
    on("the group returned", &|name| name == home);
    let returned = began.elapsed();
    assert!(returned >= DELAY, "returned after {returned:?} already");
    eprintln!("the group returned {returned:?} after its home began to start");
    hardly_noticed(&bench, "failback of a group", from, PLANNED);
    cluster.wait_until_whole().unwrap();

    // All single ones on one node; a rebalance moves two of them, and says so before.
    for i in 0..4 {
        let vip = format!("v{i}");
        cluster
            .vipctl(&["vip", "move", &vip, "--to", &refuge])
            .unwrap();
    }
    assert_eq!(loads(cluster), [2, 4]);
    let said = cluster
        .vipctl(&["cluster", "rebalance", "--dry-run"])
        .unwrap();
    assert!(said.contains("2 of 6 addresses would move"), "{said}");
    let from = Stamp::now();
    cluster.vipctl(&["cluster", "rebalance"]).unwrap();
    wait("every node holds two", PATIENCE, || {
        Ok((loads(cluster) == [2, 2, 2]).then_some(()))
    })
    .unwrap();
    hardly_noticed(&bench, "rebalance", from, PLANNED);

    let events = cluster.ask("/v1/events").unwrap().to_string();
    for cause in ["moved by the operator", "back to its home", "rebalanced"] {
        assert!(events.contains(cause), "{cause} is not among the events");
    }
    bench.ensure_never_two().unwrap();
}
