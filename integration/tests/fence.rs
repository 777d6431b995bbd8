//! The fence is in the kernel: it works while the daemon does not.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use vipd_integration::Stamp;
use vipd_integration::cluster::{Binaries, Node, PATIENCE};
use vipd_integration::lab::Lab;
use vipd_integration::probe::Probe;

/// A frozen daemon's kernel must fall silent by itself, whichever hook the programs sit in.
fn a_frozen_daemon_falls_silent_and_speaks_again(attach: &str) {
    let lab = Lab::new(&["n1"]).unwrap();
    let binaries = Binaries::built().unwrap();
    let node = Node::new(lab.host("n1"), &binaries);
    node.init().unwrap();
    node.configure("datapath", "attach", attach).unwrap();
    node.run().unwrap();
    lab.host("n1").serve().unwrap();
    node.vipctl(&[
        "pool",
        "create",
        "web",
        "--block",
        "10.77.0.100",
        "--block",
        "fd77::100",
    ])
    .unwrap();
    node.vipctl(&[
        "vip",
        "create",
        "www",
        "--pool",
        "web",
        "--families",
        "require_dual",
    ])
    .unwrap();
    let vips: [std::net::IpAddr; 2] =
        ["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()];
    let probes = vips.map(|vip| Probe::start(lab.client(), vip).unwrap());
    for probe in &probes {
        probe.wait_for("n1", Stamp::default(), PATIENCE).unwrap();
    }

    node.freeze().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let silent = Stamp::now();
    std::thread::sleep(Duration::from_millis(500));
    for (vip, probe) in vips.iter().zip(&probes) {
        assert!(
            probe.latest().unwrap().at < silent,
            "{vip} is answered though its daemon is frozen"
        );
    }
    node.thaw().unwrap();
    for probe in &probes {
        probe.wait_for("n1", Stamp::now(), PATIENCE).unwrap();
    }
}

#[test]
fn a_frozen_daemon_is_fenced_by_tcx() {
    a_frozen_daemon_falls_silent_and_speaks_again("auto");
}

#[test]
fn a_frozen_daemon_is_fenced_by_the_older_hook_too() {
    a_frozen_daemon_falls_silent_and_speaks_again("tc");
}
