//! Real kernels, real packets: a host and a client in network namespaces, a veth pair between.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, unreachable_pub)]

mod support;

use std::time::Duration;

use support::{
    MAC_HOST, Net, SECOND, VIP4, VIP6, open, run, vips, wait_until_past, wanted, with_net,
};
use vipd_datapath::{Datapath, Gate, Kernel, Wanted, boottime_ns};

use crate::support::wire::{Tap, announces};

#[test]
fn a_holder_answers_the_client_on_both_families() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.ping(VIP4) && net.ping(VIP6));
        let observed = kernel.observe().await.unwrap();
        for vip in vips() {
            let address = &observed.addresses[&vip];
            assert!(address.answering && address.present && !address.foreign);
        }
        assert!(observed.addresses[&vips()[0]].counters["arp_answered"] >= 1);
        assert!(observed.addresses[&vips()[1]].counters["ndp_answered"] >= 1);
    });
}

#[test]
fn a_standby_is_silent_and_still_a_client_of_the_holder() {
    with_net(|net| async {
        let (_kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        assert!(!net.ping(VIP4) && !net.ping(VIP6));
        // The other side takes the addresses by hand: this host reaches them.
        for (vip, bits) in [(VIP4, "32"), (VIP6, "128")] {
            let vip = format!("{vip}/{bits}");
            assert!(net.client_does(&["ip", "addr", "add", &vip, "dev", "lan", "nodad"]));
        }
        run("ping", &["-n", "-c", "1", "-W", "1", VIP4]);
        run("ping", &["-n", "-c", "1", "-W", "1", VIP6]);
    });
}

#[test]
fn the_kernel_falls_silent_at_the_deadline_without_any_help_of_the_daemon() {
    with_net(|net| async {
        let (kernel, mut node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.ping(VIP4) && net.ping(VIP6));
        let deadline = boottime_ns() + SECOND / 5;
        node.set_deadline(deadline);
        // The daemon dies without a word: no destructor runs.
        std::mem::forget(kernel);
        wait_until_past(deadline);
        for vip in [VIP4, VIP6] {
            assert!(
                net.addresses().contains(vip),
                "it is still on the interface"
            );
            assert!(!net.ping(vip), "{vip} answered after the deadline");
        }
        // Nothing leaves from it either, and a client with a warm cache gets no answer.
        for (vip, peer) in [(VIP4, "10.9.0.2"), (VIP6, "fd09::2")] {
            let ping = ["-n", "-c", "1", "-W", "0.3", "-I", vip, peer];
            assert!(
                !std::process::Command::new("ping")
                    .args(ping)
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
            let lladdr = [
                "ip",
                "neigh",
                "replace",
                vip,
                "lladdr",
                "02:00:00:00:00:01",
                "dev",
                "lan",
            ];
            assert!(net.client_does(&lladdr));
            assert!(!net.client_does(&["ping", "-n", "-c", "1", "-W", "0.3", vip]));
        }
    });
}
