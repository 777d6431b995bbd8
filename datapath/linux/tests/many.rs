//! Many addresses at once: answered for first, put on their interface afterwards.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use support::{Net, SECOND, open, vips, wanted, with_net};
use vipd_datapath::{Datapath, Gate, Kernel, Wanted};

const LAST4: &str = "10.9.5.44";
const LAST6: &str = "fd09::5:12c";

/// 300 addresses of each family, in the subnets of `lan` or beside them; [`LAST4`] and [`LAST6`] are the last.
fn many(gate: Gate, epoch: u64) -> Wanted {
    let entry = wanted(gate, epoch).addresses[&vips()[0]].clone();
    let addresses = (1..=300u16).flat_map(|n| {
        let [high, low] = n.to_be_bytes();
        let v4 = IpAddr::from([10, 9, 4 + high, low]);
        let v6 = IpAddr::from([0xfd09, 0, 0, 0, 0, 0, 5, n]);
        [(v4, entry.clone()), (v6, entry.clone())]
    });
    Wanted {
        addresses: addresses.collect(),
        interfaces: ["lan".to_owned()].into(),
        ..Wanted::default()
    }
}

fn text(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Of both families: addresses on the interface, and routes in place of one.
fn carried() -> (usize, usize) {
    let routes = |family| text(&[family, "route", "show", "table", "local", "proto", "118"]);
    let lines = |text: String, what: &[&str]| {
        let has = |line: &&str| what.iter().any(|what| line.contains(what));
        text.lines().filter(has).count()
    };
    let addresses = text(&["-o", "addr", "show", "dev", "lan"]);
    (
        lines(addresses, &[" 10.9.4.", " 10.9.5.", " fd09::5:"]),
        lines(routes("-4") + &routes("-6"), &["local"]),
    )
}

/// Audits, as the daemon does, until it is so.
async fn wait_for(what: (usize, usize), kernel: &mut Kernel, wanted: &Wanted) {
    let start = Instant::now();
    while carried() != what {
        let now = carried();
        kernel.apply(wanted).await.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{now:?}, not {what:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The client finds the addresses beside its subnet on the link.
fn on_link(net: &Net) {
    assert!(net.client_does(&["ip", "route", "add", "10.9.4.0/23", "dev", "lan"]));
}

#[test]
fn a_claim_of_many_is_answered_for_at_once_and_on_the_interface_soon_without_a_gap() {
    with_net(|net| async {
        on_link(net);
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        kernel.apply(&many(Gate::Open, 2)).await.unwrap();
        let observed = kernel.observe().await.unwrap().addresses;
        assert!(observed.len() == 600 && observed.values().all(|address| address.answering));
        assert!(net.answers(LAST4) && net.answers(LAST6));
        wait_for((600, 0), &mut kernel, &many(Gate::Open, 2)).await;
        let observed = kernel.observe().await.unwrap().addresses;
        assert!(
            observed
                .values()
                .all(|address| address.answering && !address.foreign)
        );
        assert!(net.answers(LAST4) && net.answers(LAST6));
        assert_eq!(carried(), (600, 0));
    });
}

#[test]
fn many_that_are_lost_while_they_are_still_being_put_on_fall_silent_at_once_and_go() {
    with_net(|net| async {
        on_link(net);
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        kernel.apply(&many(Gate::Open, 2)).await.unwrap();
        kernel.apply(&many(Gate::Shut, 2)).await.unwrap();
        assert!(net.silent(LAST4) && net.silent(LAST6));
        wait_for((0, 0), &mut kernel, &many(Gate::Shut, 2)).await;
        // And back, in the middle of it.
        kernel.apply(&many(Gate::Open, 3)).await.unwrap();
        kernel.apply(&many(Gate::Shut, 3)).await.unwrap();
        kernel.apply(&many(Gate::Open, 4)).await.unwrap();
        assert!(net.answers(LAST4) && net.answers(LAST6));
        wait_for((600, 0), &mut kernel, &many(Gate::Open, 4)).await;
        assert!(net.answers(LAST4) && net.answers(LAST6));
    });
}

#[test]
fn the_next_daemon_goes_on_with_what_the_one_before_it_had_only_routed() {
    with_net(|net| async {
        on_link(net);
        let (mut kernel, node) = open(net, Gate::Shut, 60 * SECOND).await;
        kernel.apply(&many(Gate::Open, 2)).await.unwrap();
        drop((kernel, node));
        let (_, routed) = carried();
        println!("{routed} of 600 were routed when it ended");
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        kernel.apply(&many(Gate::Open, 2)).await.unwrap();
        assert!(net.answers(LAST4) && net.answers(LAST6));
        wait_for((600, 0), &mut kernel, &many(Gate::Open, 2)).await;
        kernel.apply(&Wanted::default()).await.unwrap();
        assert_eq!(carried(), (0, 0), "a daemon that leaves takes all with it");
    });
}
