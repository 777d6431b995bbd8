//! Real kernels, real packets: who answers the client, and when that ends.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::process::Command;

use support::wire::send_from_client;
use support::{
    SECOND, VIP4, VIP6, counters, open, packet, run, vips, wait_until_past, wanted, with_net,
};
use vipd_datapath::{Attach, Datapath, Gate, Kernel, Options, boottime_ns};

#[test]
fn a_holder_answers_the_client_on_both_families() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.answers(VIP4) && net.answers(VIP6));
        let observed = kernel.observe().await.unwrap();
        for vip in vips() {
            let address = &observed.addresses[&vip];
            assert!(address.answering && address.present && !address.foreign);
        }
        let counters = counters(&mut kernel);
        assert!(counters[&vips()[0]]["arp_answered"] >= 1);
        assert!(counters[&vips()[1]]["ndp_answered"] >= 1);
    });
}

#[test]
fn a_kernel_without_tcx_is_served_by_clsact() {
    with_net(|net| async {
        let options = Options {
            pin_dir: net.pins.clone(),
            attach: Attach::Clsact,
            ..Options::default()
        };
        // The second one replaces the filters of the first.
        for _ in 0..2 {
            let mut kernel = Kernel::open_with(options.clone()).await.unwrap();
            kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
            let mut node = kernel.node_gate().unwrap();
            node.set_deadline(boottime_ns() + 60 * SECOND);
            assert!(net.answers(VIP4) && net.answers(VIP6));
            node.set_deadline(0);
            assert!(net.silent(VIP4) && net.silent(VIP6));
        }
        let filters = || {
            let show = ["filter", "show", "dev", "lan", "ingress"];
            let output = Command::new("tc").args(show).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines()
                .filter(|line| line.contains("vipd_ingress"))
                .count()
        };
        assert_eq!(filters(), 1);
        let kernel = Kernel::open_with(options).await.unwrap();
        kernel.remove().await.unwrap();
        assert_eq!(filters(), 0);
    });
}

#[test]
fn a_standby_is_silent_and_still_a_client_of_the_holder() {
    with_net(|net| async {
        let (_kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        assert!(net.silent(VIP4) && net.silent(VIP6));
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
fn the_holder_reaches_its_own_address_but_never_speaks_from_it_unasked() {
    with_net(|net| async {
        let (_kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        run("ping", &["-n", "-c", "1", "-W", "1", VIP4]);
        run("ping", &["-n", "-c", "1", "-W", "1", VIP6]);
        for (to, from) in [("10.9.0.2", "10.9.0.1"), ("fd09::2", "fd09::1")] {
            let output = Command::new("ip")
                .args(["route", "get", to])
                .output()
                .unwrap();
            let route = String::from_utf8(output.stdout).unwrap();
            assert!(route.contains(&format!("src {from} ")), "{route}");
        }
        assert!(net.answers(VIP4));
    });
}

#[test]
fn the_kernel_falls_silent_at_the_deadline_without_any_help_of_the_daemon() {
    with_net(|net| async {
        let (kernel, mut node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.answers(VIP4) && net.answers(VIP6));
        let deadline = boottime_ns() + SECOND / 5;
        node.set_deadline(deadline);
        // The daemon dies without a word: no destructor runs.
        std::mem::forget(kernel);
        wait_until_past(deadline);
        for (vip, peer) in [(VIP4, "10.9.0.2"), (VIP6, "fd09::2")] {
            assert!(
                net.addresses().contains(vip),
                "it is still on the interface"
            );
            assert!(net.silent(vip), "{vip} answered after the deadline");
            // Nothing leaves from it, and a client with a warm neighbour cache gets no answer.
            let from_vip = ["-n", "-c", "1", "-W", "0.3", "-I", vip, peer];
            let ping = Command::new("ping").args(from_vip).output().unwrap();
            assert!(!ping.status.success(), "{vip} spoke after the deadline");
            let mac = "02:00:00:00:00:01";
            assert!(net.client_does(&["ip", "neigh", "replace", vip, "lladdr", mac, "dev", "lan"]));
            assert!(!net.client_does(&["ping", "-n", "-c", "1", "-W", "0.3", vip]));
        }
    });
}

#[test]
fn frames_cut_off_at_any_byte_do_no_harm_on_a_real_wire() {
    with_net(|net| async {
        let (_kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let mut frames = Vec::new();
        let solicitation = packet::solicitation(VIP6, &packet::SLLAO);
        for frame in [
            packet::who_has(VIP4, "10.9.0.2"),
            packet::ipv4("10.9.0.2", VIP4),
            packet::ipv6("fd09::2", VIP6, 58, 255, &solicitation),
            packet::ipv6("fd09::2", VIP6, 0, 255, &solicitation),
            packet::tagged(&packet::who_has(VIP4, "10.9.0.2"), 5),
        ] {
            frames.extend((14..=frame.len()).map(|length| frame[..length].to_vec()));
        }
        send_from_client(net, frames);
        assert!(net.answers(VIP4) && net.answers(VIP6));
    });
}
