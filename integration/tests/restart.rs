//! What was agreed survives: daemons that are killed come back to the same pools, VIPs and members.
#![allow(clippy::unwrap_used)]

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use vipd_integration::cluster::{PATIENCE, wait};
use vipd_integration::probe::Gap;
use vipd_integration::{Bench, Stamp};

/// Longest time without an answer that is nothing but a busy machine: answers that are late, none that is lost.
const PLANNED: Duration = Duration::from_millis(100);

/// Everything that must be the same after a restart, as the API shows it.
fn agreed(bench: &Bench) -> anyhow::Result<Value> {
    let api = bench.cluster().node("n1").api();
    let list = |path: &str, keys: &[&str]| -> anyhow::Result<Value> {
        let answer = api.get(path)?;
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        let kept = items.iter().map(|item| {
            keys.iter()
                .map(|&key| (key.to_owned(), item[key].clone()))
                .collect()
        });
        Ok(Value::Array(kept.collect()))
    };
    let members = api.get("/v1/cluster")?["members"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let members: Vec<_> = members
        .iter()
        .map(|m| json!([m["name"], m["id"], m["role"], m["voting"]]))
        .collect();
    let vips = api.get("/v1/vips")?["items"].clone();
    let given = vips.as_array().into_iter().flatten().map(|vip| {
        let status = &vip["status"];
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let satisfied = conditions.find(|it| it["type"] == "satisfied");
        let addresses = status["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<_> = addresses.map(|it| it["address"].clone()).collect();
        json!([vip["name"], addresses, satisfied])
    });
    let given: Vec<_> = given.collect();
    let mut holders: Vec<_> = api
        .addresses()?
        .into_iter()
        .map(|s| (s.address, s.holder, s.epoch))
        .collect();
    holders.sort();
    Ok(json!({
        "pools": list("/v1/pools", &["name", "labels", "spec", "generation", "revision"])?,
        "vips": list("/v1/vips", &["name", "labels", "spec", "generation", "revision"])?,
        "given": given,
        "members": members,
        "holders": format!("{holders:?}"),
    }))
}

#[test]
fn all_three_daemons_killed_at_once_come_back_to_what_was_agreed_and_to_who_waits_for_what() {
    let bench = Bench::start().unwrap();
    bench
        .cluster()
        .vipctl(&[
            "vip",
            "create",
            "second",
            "--pool",
            "web",
            "--families",
            "ipv4",
        ])
        .unwrap();
    bench
        .cluster()
        .vipctl(&[
            "pool",
            "create",
            "other",
            "--block",
            "10.77.0.150-10.77.0.159",
        ])
        .unwrap();
    let vipctl = |arguments: &[&str]| bench.cluster().vipctl(arguments).unwrap();
    vipctl(&["pool", "create", "one", "--block", "10.77.0.160"]);
    for name in ["has-it", "older", "younger"] {
        let from_one = ["--pool", "one", "--families", "ipv4"];
        vipctl(&[&["vip", "create", name], &from_one[..]].concat());
    }
    wait("all addresses have holders", PATIENCE, || {
        let states = bench.cluster().addresses()?;
        Ok((states.len() == 4 && states.iter().all(|s| s.holder.is_some())).then_some(()))
    })
    .unwrap();
    let before = agreed(&bench).unwrap();
    let waits = before["given"].to_string().matches("out_of_ips").count();
    assert_eq!(waits, 2, "{}", before["given"]);

    for node in bench.cluster().nodes() {
        node.kill9().unwrap();
    }
    // Long enough for every lease to have run out: the whole cluster is dark.
    sleep(Duration::from_secs(1));
    for node in bench.cluster().nodes() {
        node.run().unwrap();
    }
    bench.cluster().wait_until_whole().unwrap();
    bench
        .wait_for_one_holder("the client is served again", |_| true)
        .unwrap();
    let after = agreed(&bench).unwrap();
    for what in ["pools", "vips", "given", "members", "holders"] {
        assert_eq!(after[what], before[what], "{what}");
    }
    // Who waited before waits on, and in the same order.
    vipctl(&["vip", "delete", "has-it"]);
    wait("the older one has it", PATIENCE, || {
        let states = bench.cluster().addresses()?;
        let mut freed = states.iter().filter(|it| it.pool == "one");
        Ok(freed.any(|it| it.vip == "older").then_some(()))
    })
    .unwrap();
    let given = agreed(&bench).unwrap()["given"].to_string();
    assert_eq!(given.matches("out_of_ips").count(), 1, "{given}");
    bench.ensure_never_two().unwrap();
}

#[test]
fn the_vip_stays_while_the_other_daemons_restart() {
    let bench = Bench::start().unwrap();
    let holder = bench
        .wait_for_one_holder("a holder", |_| true)
        .unwrap()
        .name();
    let epochs: Vec<_> = bench
        .addresses()
        .iter()
        .map(|&a| bench.history().epochs(a))
        .collect();
    // The other two lose their daemons one after the other: no reason for the VIP to move.
    for node in bench
        .cluster()
        .nodes()
        .filter(|node| node.host().name() != holder)
    {
        node.kill9().unwrap();
        node.run().unwrap();
        bench.cluster().wait_until_whole().unwrap();
    }
    sleep(Duration::from_secs(1));
    assert_eq!(
        bench
            .wait_for_one_holder("a holder", |_| true)
            .unwrap()
            .name(),
        holder
    );
    for (&address, before) in bench.addresses().iter().zip(&epochs) {
        assert_eq!(
            &bench.history().epochs(address),
            before,
            "{address} moved needlessly"
        );
    }
    bench.ensure_never_two().unwrap();
}

#[test]
fn a_daemon_that_is_reloaded_keeps_its_vips_under_their_tokens_and_no_datagram_is_lost() {
    let bench = Bench::start().unwrap();
    let holder = bench
        .wait_for_one_holder("a holder", |_| true)
        .unwrap()
        .name()
        .to_owned();
    let before = agreed(&bench).unwrap();
    let from = Stamp::now();
    // The holder last: it is the one that the others' reloads must not hurt, and then the one that goes.
    let others = bench
        .cluster()
        .nodes()
        .filter(|node| node.host().name() != holder);
    for node in others.chain([bench.cluster().node(&holder)]) {
        node.reload().unwrap();
        bench.cluster().wait_until_whole().unwrap();
    }
    // Past the end of the stretched lease: it goes on by one of its own.
    sleep(Duration::from_secs(3));
    assert_eq!(agreed(&bench).unwrap(), before);
    // The kernel goes on by itself and nobody falls silent, so that no loss is anybody's but vipd's (compare `handing.rs`).
    for (probe, &address) in bench.probes().iter().zip(bench.addresses()) {
        let lost = probe.unanswered_since(from);
        assert!(lost.is_empty(), "{address}: {lost:?}");
    }
    let outages: Vec<Duration> = bench.outages(from).iter().map(Gap::length).collect();
    eprintln!("three reloads: the client had no answer for {outages:?}");
    assert!(
        outages.iter().all(|outage| *outage < PLANNED),
        "{outages:?}"
    );
    bench.ensure_never_two().unwrap();
}

#[test]
fn a_reload_with_a_configuration_that_is_wrong_changes_nothing_and_says_what_is_wrong() {
    let bench = Bench::start().unwrap();
    let node = bench.cluster().node("n1");
    node.configure("lease", "profile", "sluggish").unwrap();
    node.host().hang_up("vipd").unwrap();
    wait("the log says what is wrong", PATIENCE, || {
        let log = node.log_tail(20);
        Ok((log.contains("not reloaded") && log.contains("sluggish")).then_some(()))
    })
    .unwrap();
    assert!(node.host().process("vipd", |it| Ok(it.alive())).unwrap());
    bench.wait_for_one_holder("a holder", |_| true).unwrap();
}
