//! What was agreed survives: daemons that are killed come back to the same pools, VIPs and members.
#![allow(clippy::unwrap_used)]

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use vipd_integration::cluster::{PATIENCE, wait};
use vipd_integration::probe::Gap;
use vipd_integration::{Bench, Stamp};

/// Longest time without an answer that is nothing but a busy machine.
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
    let mut holders: Vec<_> = api
        .addresses()?
        .into_iter()
        .map(|s| (s.address, s.holder, s.epoch))
        .collect();
    holders.sort();
    Ok(json!({
        "pools": list("/v1/pools", &["name", "labels", "spec", "generation", "revision"])?,
        "vips": list("/v1/vips", &["name", "labels", "spec", "generation", "revision"])?,
        "members": members,
        "holders": format!("{holders:?}"),
    }))
}

#[test]
fn all_three_daemons_killed_at_once_come_back_to_what_was_agreed() {
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
    wait("all addresses have holders", PATIENCE, || {
        let states = bench.cluster().addresses()?;
        Ok((states.len() == 3 && states.iter().all(|s| s.holder.is_some())).then_some(()))
    })
    .unwrap();
    let before = agreed(&bench).unwrap();

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
    for what in ["pools", "vips", "members", "holders"] {
        assert_eq!(after[what], before[what], "{what}");
    }
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
fn a_daemon_that_is_reloaded_keeps_its_vips_under_their_tokens_and_the_client_does_not_notice() {
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
