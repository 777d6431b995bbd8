//! Addresses on interfaces: whose they are, how fast they come and go, how changes are told.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{net::IpAddr, time::Duration};

use support::{SECOND, VIP4, VIP6, counters, open, run, vips, wanted, with_net};
use vipd_datapath::{Datapath, Gate, Wanted, boottime_ns, watch_interfaces};

#[test]
fn an_address_of_the_administrator_is_fenced_but_never_taken_away() {
    with_net(|net| async {
        run("ip", &["addr", "add", "10.9.0.100/24", "dev", "lan"]);
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(kernel.observe().await.unwrap().addresses[&vips()[0]].foreign);
        assert!(net.answers(VIP4));
        kernel.apply(&wanted(Gate::Shut, 1)).await.unwrap();
        assert!(net.addresses().contains("10.9.0.100/24"));
        assert!(
            net.silent(VIP4),
            "it is there, but this host does not hold it"
        );
        assert!(!net.addresses().contains(VIP6), "ours is gone");
    });
}

#[test]
fn an_address_that_somebody_deleted_is_put_back_by_the_next_audit() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        run("ip", &["addr", "del", "10.9.0.100/32", "dev", "lan"]);
        assert!(!kernel.observe().await.unwrap().addresses[&vips()[0]].answering);
        kernel.apply(&wanted(Gate::Open, 1)).await.unwrap();
        assert!(net.answers(VIP4));
    });
}

#[test]
fn an_address_without_its_interface_fails_alone_and_by_name() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        let mut claim = wanted(Gate::Open, 2);
        claim.addresses.get_mut(&vips()[1]).unwrap().interface = "nowhere".to_owned();
        let error = kernel.apply(&claim).await.unwrap_err().to_string();
        assert!(error.contains(VIP6) && error.contains("nowhere"), "{error}");
        assert!(net.answers(VIP4));
    });
}

#[test]
fn a_virtual_address_is_no_prefix_of_its_interface() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let interfaces = kernel.interfaces().await.unwrap();
        assert_eq!(interfaces.len(), 1, "no loopback: {interfaces:?}");
        let lan = &interfaces[0];
        assert!(lan.up && lan.name == "lan" && lan.mac == support::MAC_HOST);
        let own: IpAddr = "10.9.0.1".parse().unwrap();
        assert!(lan.prefixes.contains(&(own, 24)));
        assert!(
            !lan.prefixes
                .iter()
                .any(|(address, _)| vips().contains(address))
        );
        assert!(net.addresses().contains(VIP4));
    });
}

#[test]
fn a_change_of_an_interface_is_told() {
    with_net(|_| async {
        let mut changes = watch_interfaces().unwrap();
        for state in ["down", "up"] {
            changes.borrow_and_update();
            run("ip", &["link", "set", "lan", state]);
            let told = tokio::time::timeout(Duration::from_secs(5), changes.changed()).await;
            told.expect("within five seconds").unwrap();
        }
    });
}

#[test]
fn a_thousand_addresses_come_and_go_with_one_lease() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        let one = wanted(Gate::Open, 7).addresses[&vips()[0]].clone();
        let addresses = (0..1000).map(|n: u32| {
            let [.., high, low] = n.to_be_bytes();
            (IpAddr::from([10, 9, 4 + high, low]), one.clone())
        });
        let many = Wanted {
            addresses: addresses.collect(),
            interfaces: ["lan".to_owned()].into(),
            ..Wanted::default()
        };
        let start = boottime_ns();
        kernel.apply(&many).await.unwrap();
        let open = boottime_ns();
        kernel.apply(&Wanted::default()).await.unwrap();
        let shut = boottime_ns();
        println!(
            "1000 claims: {} ms, 1000 losses: {} ms",
            (open - start) / 1_000_000,
            (shut - open) / 1_000_000
        );
        assert!(!net.addresses().contains("10.9.4."));
    });
}

#[test]
fn a_virtual_address_on_a_bridge_is_answered_through_its_port_which_has_no_programs() {
    with_net(|net| async {
        run(
            "ip",
            &["link", "add", "br0", "type", "bridge", "forward_delay", "0"],
        );
        run("ip", &["addr", "flush", "dev", "lan"]);
        run("ip", &["link", "set", "lan", "master", "br0"]);
        run("ip", &["link", "set", "br0", "up"]);
        run("ip", &["addr", "add", "10.9.0.1/24", "dev", "br0"]);
        let mut kernel = vipd_datapath::Kernel::open(&net.pins).await.unwrap();
        let found = kernel.interfaces().await.unwrap();
        let names: Vec<&str> = found.iter().map(|found| &*found.name).collect();
        assert_eq!(names, ["br0"], "a port is no host's side");
        let mut on_bridge = wanted(Gate::Open, 1);
        on_bridge.interfaces = ["br0".to_owned()].into();
        for address in on_bridge.addresses.values_mut() {
            address.interface = "br0".to_owned();
        }
        kernel.apply(&on_bridge).await.unwrap();
        let mut node = kernel.node_gate().unwrap();
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert!(net.answers(VIP4));
        node.set_deadline(0);
        assert!(net.silent(VIP4));
    });
}

#[test]
fn a_second_interface_on_the_same_wire_does_not_answer_for_the_address_of_the_first() {
    with_net(|net| async {
        let client = net.client();
        let second = [
            "link", "add", "lan2", "type", "veth", "peer", "name", "lan2", "netns", &client,
        ];
        run("ip", &second);
        run("ip", &["link", "set", "lan2", "up"]);
        run("ip", &["addr", "add", "10.9.0.4/24", "dev", "lan2"]);
        run("ip", &["-n", &client, "link", "set", "lan2", "up"]);
        run(
            "ip",
            &["-n", &client, "addr", "add", "10.9.0.3/24", "dev", "lan2"],
        );
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        let mut both = wanted(Gate::Open, 1);
        both.interfaces.insert("lan2".to_owned());
        kernel.apply(&both).await.unwrap();
        assert!(net.answers(VIP4));
        assert!(!net.client_does(&["ping", "-n", "-c", "1", "-W", "0.5", "-I", "lan2", VIP4]));
        let counters = counters(&mut kernel);
        assert!(
            counters[&vips()[0]]["unanswered"] > 0,
            "it was asked there: {counters:?}"
        );
    });
}
