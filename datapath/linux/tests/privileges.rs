//! What the process must be allowed to do, and what it says when it is not.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::process::{Command, Output};

use support::lan::{balanced, services};
use support::{Net, SECOND, VIP4, VIP6, open, with_net};
use vipd_datapath::{Datapath, Forward, Gate, Kernel};
use vipd_datapath_common::SCHEMA;

/// The name of the helper below, and how it learns where to pin.
const HELPER: &str = "helper_opens_a_datapath_and_serves_both_addresses";
const PINS: &str = "VIPD_TEST_PINS";

/// Runs the helper in a process with these capabilities and no others.
fn with_capabilities(net: &Net, capabilities: &str) -> Output {
    let set = format!("-all,{capabilities}");
    Command::new("setpriv")
        .args(["--bounding-set", &set, "--inh-caps", "-all", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", HELPER, "--ignored", "--nocapture"])
        .env(PINS, &net.pins)
        .output()
        .unwrap()
}

/// Not a test of its own: another process runs it, in the namespace of the one that asks.
#[test]
#[ignore = "run by the other tests of this file in a process of fewer privileges"]
fn helper_opens_a_datapath_and_serves_both_addresses() {
    let pins = std::env::var_os(PINS).expect("run by the other tests only");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // Let go of at once: the maps are for one daemon at a time.
        match Kernel::open(&pins).await.map(drop) {
            Ok(()) => {
                let net = support::Net::borrowed(pins.into());
                let (mut kernel, node) = open(&net, Gate::Open, 60 * SECOND).await;
                let wanted = balanced(services(Forward::Nat, &[(2, 1)]));
                kernel.apply(&wanted).await.unwrap();
                std::mem::forget((kernel, node));
                println!("served");
                std::mem::forget(net);
            }
            Err(error) => println!("refused: {error}"),
        }
    });
}

#[test]
fn four_capabilities_are_enough_for_everything() {
    with_net(|net| async {
        let output = with_capabilities(net, "+bpf,+perfmon,+net_admin,+net_raw");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("served"), "{text}");
        assert!(net.answers(VIP4) && net.answers(VIP6));
        let links = net.pins.join(format!("v{SCHEMA}/links"));
        assert!(links.join("connect4").exists(), "also at sockets");
    });
}

#[test]
fn a_missing_capability_is_named_with_the_way_to_give_it() {
    with_net(|net| async {
        for (given, missing) in [
            ("+perfmon,+net_admin,+net_raw", "CAP_BPF"),
            ("+bpf,+net_admin,+net_raw", "CAP_PERFMON"),
            ("+bpf,+perfmon,+net_raw", "CAP_NET_ADMIN"),
            ("+bpf,+perfmon,+net_admin", "CAP_NET_RAW"),
        ] {
            let output = with_capabilities(net, given);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(
                text.contains(&format!("refused: vipd lacks {missing}")),
                "{text}"
            );
            assert!(
                text.contains(&format!("AmbientCapabilities={missing}")),
                "{text}"
            );
        }
        assert!(!net.pins.exists(), "nothing was left behind");
    });
}
