//! A daemon that ends, and the next one.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::process::{Command, Stdio};

use support::bench::object;
use support::{
    SECOND, VIP4, VIP6, open, programs, run, wait_for_programs, wait_until_past, wanted, with_net,
};
use vipd_datapath::{Datapath, Gate, Kernel, Wanted, boottime_ns};
use vipd_datapath_common::SCHEMA;

#[test]
fn a_restarted_daemon_takes_over_without_losing_a_packet() {
    with_net(|net| async {
        let (kernel, node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.answers(VIP4));
        let client = net.client();
        let ping = [
            "netns", "exec", &client, "ping", "-n", "-q", "-i", "0.002", "-c", "300", VIP4,
        ];
        let ping = Command::new("ip").args(ping).stdout(Stdio::piped()).spawn();
        drop((kernel, node));
        for epoch in 2..6 {
            let mut kernel = Kernel::open(&net.pins).await.unwrap();
            kernel.apply(&wanted(Gate::Open, epoch)).await.unwrap();
            assert_eq!(programs(), 2);
        }
        let output = ping.unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("300 received, 0% packet loss"), "{text}");
    });
}

#[test]
fn the_next_daemon_takes_away_what_is_no_longer_wanted() {
    with_net(|net| async {
        drop(open(net, Gate::Open, 60 * SECOND).await);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        kernel.apply(&Wanted::default()).await.unwrap();
        assert!(!net.addresses().contains(VIP4) && !net.addresses().contains(VIP6));
        assert!(kernel.observe().await.unwrap().addresses.is_empty());
        assert_eq!(programs(), 0);
    });
}

#[test]
fn the_lease_of_a_new_daemon_does_not_revive_what_the_old_one_left_open() {
    with_net(|net| async {
        let deadline = boottime_ns() + SECOND / 2;
        drop(open(net, Gate::Open, SECOND / 2).await);
        wait_until_past(deadline + SECOND / 2);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let mut node = kernel.node_gate().unwrap();
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert!(net.silent(VIP4), "before it knows what is wanted");
        kernel.apply(&wanted(Gate::Shut, 2)).await.unwrap();
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert!(net.silent(VIP4), "and after");
    });
}

#[test]
fn removal_leaves_nothing() {
    with_net(|net| async {
        let before = net.addresses();
        let (kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.pins.exists() && programs() == 2);
        kernel.remove().await.unwrap();
        assert!(!net.pins.exists());
        wait_for_programs(0);
        // But for the link-local address, which comes by itself in these seconds.
        let stable = |text: String| -> Vec<String> {
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("inet"));
            lines
                .filter(|line| !line.contains("fe80"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(stable(net.addresses()), stable(before));
    });
}

#[test]
fn an_interface_that_was_replaced_gets_the_programs_and_the_addresses_again() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        run("ip", &["link", "del", "lan"]);
        let error = kernel
            .apply(&wanted(Gate::Open, 1))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("interface lan does not exist"), "{error}");
        let client = net.client();
        run(
            "ip",
            &[
                "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", &client,
            ],
        );
        run("ip", &["link", "set", "lan", "up"]);
        run("ip", &["-n", &client, "link", "set", "lan", "up"]);
        run("ip", &["addr", "add", "10.9.0.1/24", "dev", "lan"]);
        run(
            "ip",
            &["-n", &client, "addr", "add", "10.9.0.2/24", "dev", "lan"],
        );
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert!(net.answers(VIP4));
        assert_eq!(programs(), 2);
    });
}

/// The folder of this version's pins.
fn current(net: &support::Net) -> std::path::PathBuf {
    net.pins.join(format!("v{SCHEMA}"))
}

#[test]
fn pinned_maps_of_another_shape_are_refused_with_the_way_out() {
    with_net(|net| async {
        drop(open(net, Gate::Shut, 0).await);
        let pin = current(net).join("addresses");
        std::fs::remove_file(&pin).unwrap();
        let mut loader = aya::EbpfLoader::new();
        let other = loader
            .map_max_entries("ADDRESSES", 16)
            .load(&object())
            .unwrap();
        other.map("ADDRESSES").unwrap().pin(&pin).unwrap();
        let error = Kernel::open(&net.pins).await.err().unwrap().to_string();
        assert!(
            error.contains("has size 16, this vipd needs 65536"),
            "{error}"
        );
        assert!(
            error.contains(&format!("v{SCHEMA} and start again")),
            "{error}"
        );
    });
}

/// As `bpftool link detach` does: the pins stay, and point to links that are attached to nothing.
fn detach(net: &support::Net) {
    for kind in ["ingress", "egress"] {
        let ifindex = nix::net::if_::if_nametoindex("lan").unwrap();
        let pin = current(net).join(format!("links/{kind}_{ifindex}"));
        let pin = std::ffi::CString::new(pin.to_str().unwrap()).unwrap();
        // The commands BPF_OBJ_GET and BPF_LINK_DETACH of linux/bpf.h; a path, then a descriptor.
        let get = [pin.as_ptr() as u64, 0];
        // SAFETY: the attribute and the path that it points to outlive the call.
        let fd = unsafe { nix::libc::syscall(nix::libc::SYS_bpf, 7, &raw const get, 16) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let fd = i32::try_from(fd).unwrap();
        // SAFETY: as above; the descriptor is ours, and closed once.
        let result = unsafe {
            let result = nix::libc::syscall(nix::libc::SYS_bpf, 34, &raw const fd, 4);
            nix::libc::close(fd);
            result
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

#[test]
fn programs_that_somebody_detached_are_put_back_by_the_next_audit_and_that_is_told() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        detach(net);
        assert_eq!(programs(), 0);
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert_eq!(programs(), 2);
        let lost = kernel.observe().await.unwrap().lost;
        assert_eq!(lost.len(), 1);
        assert!(lost[0].back && lost[0].interface == "lan");
        assert!(net.answers(VIP4));
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert_eq!(kernel.observe().await.unwrap().lost, [], "told once");
    });
}

#[test]
fn a_pin_that_somebody_removed_takes_nothing_with_it_and_is_put_back() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let links = net
            .pins
            .join(format!("v{}/links", vipd_datapath_common::SCHEMA));
        std::fs::remove_dir_all(&links).unwrap();
        std::fs::create_dir(&links).unwrap();
        assert_eq!(programs(), 2);
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        drop(kernel);
        assert_eq!(programs(), 2, "pinned again: they outlive the daemon");
        assert!(net.answers(VIP4));
    });
}

#[test]
fn filters_that_went_with_their_queueing_discipline_are_put_back() {
    with_net(|net| async {
        let options = vipd_datapath::Options {
            pin_dir: net.pins.clone(),
            attach: vipd_datapath::Attach::Clsact,
            ..vipd_datapath::Options::default()
        };
        let mut kernel = Kernel::open_with(options).await.unwrap();
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert_eq!(programs(), 2);
        run("tc", &["qdisc", "del", "dev", "lan", "clsact"]);
        assert_eq!(programs(), 0);
        // As the daemon does: what this look hears is not forgotten by the audit after it.
        kernel.interfaces().await.unwrap();
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert_eq!(programs(), 2);
        assert_eq!(kernel.observe().await.unwrap().lost.len(), 1);
    });
}
