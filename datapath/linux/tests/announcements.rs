//! What the client hears unasked.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::time::Duration;

use support::wire::{Tap, announces, send_from_client};
use support::{
    MAC_CLIENT, MAC_HOST, SECOND, VIP4, counters, open, packet, run, vips, wanted, with_net,
};
use vipd_datapath::{Datapath, Gate, Kernel, boottime_ns};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_claim_is_on_the_wire_at_once_and_repeated_in_a_burst() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        for (vip, frames_each) in vips().into_iter().zip([2, 1]) {
            let tap = Tap::at_client(net);
            let mut claim = wanted(Gate::Shut, 2);
            claim.addresses.get_mut(&vip).unwrap().gate = Gate::Open;
            let start = boottime_ns();
            kernel.apply(&claim).await.unwrap();
            let took = boottime_ns() - start;
            let heard = tap.collect(ms(1300), announces(vip, MAC_HOST));
            // 0, 50, 100, 200, 500 and 1000 ms; a busy machine may swallow one of them.
            let announced = heard.len() / frames_each;
            assert!((4..=6).contains(&announced), "{heard:?}");
            let first = heard[0].0 - start;
            println!("{vip}: on the wire after {first} ns, all done after {took} ns");
            assert!(first < SECOND / 10, "{first} ns");
            let last = heard[heard.len() - 1].0 - start;
            assert!(last > SECOND, "{last} ns");
        }
    });
}

#[test]
fn the_burst_ends_the_instant_the_address_is_lost() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        kernel.apply(&wanted(Gate::Open, 2)).await.unwrap();
        kernel.apply(&wanted(Gate::Shut, 2)).await.unwrap();
        let tap = Tap::at_client(net);
        let heard = tap.collect(ms(600), |frame| {
            vips().iter().any(|vip| announces(*vip, MAC_HOST)(frame))
        });
        assert_eq!(heard, []);
        let counters = counters(&mut kernel);
        let stopped = counters[&vips()[0]]["announcement_stopped"];
        assert_eq!(stopped, 0, "none was even tried");
    });
}

#[test]
fn stale_announcements_of_a_daemon_that_lost_its_lease_do_not_leave() {
    with_net(|net| async {
        let (mut kernel, mut node) = open(net, Gate::Shut, 60 * SECOND).await;
        kernel.apply(&wanted(Gate::Open, 2)).await.unwrap();
        node.set_deadline(0);
        let tap = Tap::at_client(net);
        let heard = tap.collect(ms(600), |frame| {
            vips().iter().any(|vip| announces(*vip, MAC_HOST)(frame))
        });
        assert_eq!(heard, []);
        for (_, counters) in counters(&mut kernel) {
            assert!(counters["announcement_stopped"] >= 3);
        }
    });
}

#[test]
fn the_claim_of_another_host_is_answered_by_an_announcement_and_told() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let tap = Tap::at_client(net);
        // Past the burst.
        tap.collect(ms(2300), |_| false);
        let claim = packet::arp(2, packet::BROADCAST, MAC_CLIENT, VIP4, VIP4);
        send_from_client(net, vec![claim]);
        let heard = tap.collect(ms(1000), announces(vips()[0], MAC_HOST));
        assert_eq!(heard.len(), 2, "both forms, once");
        let conflicts = kernel.observe().await.unwrap().conflicts;
        assert_eq!(conflicts.len(), 1);
        assert_eq!(
            (
                conflicts[0].address,
                conflicts[0].mac,
                &*conflicts[0].interface
            ),
            (vips()[0], MAC_CLIENT, "lan")
        );
    });
}

#[test]
fn addresses_are_announced_again_when_their_link_comes_back() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let tap = Tap::at_client(net);
        tap.collect(ms(2300), |_| false);
        run("ip", &["link", "set", "lan", "down"]);
        run("ip", &["link", "set", "lan", "up"]);
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        let heard = tap.collect(ms(1000), announces(vips()[0], MAC_HOST));
        assert!(heard.len() >= 2, "{heard:?}");
    });
}

#[test]
fn a_restarted_daemon_goes_on_announcing() {
    with_net(|net| async {
        drop(open(net, Gate::Open, 60 * SECOND).await);
        let tap = Tap::at_client(net);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        for vip in vips() {
            assert!(!tap.collect(ms(300), announces(vip, MAC_HOST)).is_empty());
        }
    });
}
