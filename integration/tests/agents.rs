//! Agents hold VIPs without a vote: as many as wanted, and lost as safely as any holder.
#![allow(clippy::unwrap_used)]

use std::thread::sleep;
use std::time::Duration;

use vipd_integration::probe::Gap;
use vipd_integration::{Bench, Stamp};

/// As for voters, see `failover.rs`.
const CRASH: Duration = Duration::from_millis(500);

#[test]
fn an_agent_holds_a_vip_and_is_replaced_when_it_is_lost() {
    let bench = Bench::with(&["n1", "n2", "n3", "a1", "a2"], 3).unwrap();
    let move_to = |agent: &str| {
        bench
            .cluster()
            .vipctl(&["vip", "move", "www", "--to", agent])
            .unwrap()
    };
    let serves = |agent: &str| {
        bench
            .wait_for_one_holder("the agent serves", |name| name == agent)
            .unwrap()
    };

    move_to("a1");
    serves("a1");
    bench.cluster().vipctl(&["node", "drain", "a1"]).unwrap();
    bench
        .wait_for_one_holder("another host serves", |name| name != "a1")
        .unwrap();
    bench.cluster().vipctl(&["node", "undrain", "a1"]).unwrap();

    move_to("a2");
    serves("a2");
    let from = Stamp::now();
    bench.lab().host("a2").power_off().unwrap();
    bench
        .wait_for_one_holder("another host serves", |name| name != "a2")
        .unwrap();
    sleep(Duration::from_secs(1));
    let outages: Vec<Duration> = bench.outages(from).iter().map(Gap::length).collect();
    eprintln!("agent lost: the client had no answer for {outages:?}");
    assert!(outages.iter().all(|&outage| outage < CRASH), "{outages:?}");

    bench.lab().host("a2").power_on().unwrap();
    bench.cluster().node("a2").run().unwrap();
    bench.cluster().wait_until_whole().unwrap();
    bench.ensure_never_two().unwrap();
}

#[test]
fn an_agent_that_holds_does_not_notice_the_loss_of_the_leader() {
    let bench = Bench::with(&["n1", "n2", "n3", "a1"], 3).unwrap();
    bench
        .cluster()
        .vipctl(&["vip", "move", "www", "--to", "a1"])
        .unwrap();
    bench
        .wait_for_one_holder("the agent serves", |name| name == "a1")
        .unwrap();
    let cluster = bench.cluster().node("n1").api().get("/v1/cluster").unwrap();
    let leader = cluster["leader"].as_str().unwrap().to_owned();

    let from = Stamp::now();
    bench.lab().host(&leader).power_off().unwrap();
    sleep(Duration::from_secs(3));
    assert_eq!(
        bench
            .wait_for_one_holder("a holder", |_| true)
            .unwrap()
            .name(),
        "a1"
    );
    for gap in bench.outages(from) {
        assert!(
            gap.length() < Duration::from_millis(100),
            "the client noticed: {gap:?}"
        );
    }
    bench.ensure_never_two().unwrap();
}
