//! Virtual IPs on VLAN devices: each VLAN is a link of its own, and so is the untagged one below.
//!
//! Not every kernel has VLAN devices (`CONFIG_VLAN_8021Q`), so these run where it is known to: on Debian's, emulated
//! (`cargo xtask kernel vlans`, which is part of `cargo xtask test`).

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::clients::{ask_all, by_backend, hold};
use support::lan::{Lan, balanced, nat_to};
use support::{Net, SECOND, VIP4, VIP6, run, wait_until_past, with_net};
use vipd_datapath::{Datapath, Gate, Services, Wanted, WantedAddress, boottime_ns};

/// The virtual IPs of VLAN 7.
const VLAN4: &str = "10.7.0.100";
const VLAN6: &str = "fd07::100";

/// VLAN 7 above `lan`, and its addresses.
fn tag(namespace: &str, last: u8) {
    let ip = |arguments: &[&str]| run("ip", &[&["-n", namespace], arguments].concat());
    let device = "link add link lan name lan.7 type vlan id 7";
    ip(&device.split(' ').collect::<Vec<_>>());
    ip(&["link", "set", "lan.7", "up"]);
    let (v4, v6) = (format!("10.7.0.{last}/24"), format!("fd07::{last}/64"));
    ip(&["addr", "add", &v4, "dev", "lan.7"]);
    ip(&["addr", "add", &v6, "dev", "lan.7", "nodad"]);
}

/// VLAN 7 at the host and the client; two virtual IPs on it, and two on the link below.
fn both(net: &Net, services: Services) -> Wanted {
    tag(&net.host(), 1);
    tag(&net.client(), 2);
    let mut wanted = balanced(services);
    for address in [VLAN4, VLAN6] {
        let on_vlan = WantedAddress {
            interface: "lan.7".to_owned(),
            gate: Gate::Open,
            epoch: 1,
        };
        wanted.addresses.insert(address.parse().unwrap(), on_vlan);
    }
    wanted.interfaces.insert("lan.7".to_owned());
    wanted
}

/// What is found of an address where the client looks for it on this device.
fn on(net: &Net, device: &str, address: &str, found: impl FnOnce(&Net, &str) -> bool) -> bool {
    let route = ["ip", "route", "replace", address, "dev", device];
    assert!(net.client_does(&route), "{route:?}");
    let found = found(net, address);
    assert!(net.client_does(&["ip", "route", "del", address, "dev", device]));
    found
}

#[test]
#[ignore = "needs VLAN devices, which not every kernel has: cargo xtask kernel vlans"]
fn a_vip_on_a_vlan_is_answered_for_there_and_no_longer_than_its_lease() {
    with_net(|net| async move {
        let (kernel, mut node) = hold(net, &both(net, Services::new())).await;
        for address in [VLAN4, VLAN6, VIP4, VIP6] {
            assert!(net.answers(address), "{address}");
        }
        let deadline = boottime_ns() + SECOND / 10;
        node.set_deadline(deadline);
        wait_until_past(deadline);
        for address in [VLAN4, VLAN6, VIP4, VIP6] {
            assert!(net.silent(address), "{address}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
#[ignore = "needs VLAN devices, which not every kernel has: cargo xtask kernel vlans"]
fn nobody_is_told_on_one_link_of_a_vip_on_the_other() {
    with_net(|net| async move {
        let (kernel, _node) = hold(net, &both(net, Services::new())).await;
        for (address, its, other) in [(VLAN4, "lan.7", "lan"), (VIP4, "lan", "lan.7")] {
            assert!(on(net, its, address, Net::answers), "{address} on {its}");
            assert!(on(net, other, address, Net::silent), "{address} on {other}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
#[ignore = "needs VLAN devices, which not every kernel has: cargo xtask kernel vlans"]
fn connections_to_a_vip_on_a_vlan_are_spread_over_backends_on_it_and_beside_it() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        tag(&lan.backend(1), 11);
        // At each address a server of its own: its way back is another link than that by which it was asked.
        let on_vlan = ["10.7.0.11", "fd07::11"].map(|at| lan.serve_at(1, at, 8080));
        let _servers = (on_vlan, lan.serve(2, 8080));
        // One backend on the VLAN, one on the link below.
        let mut services = nat_to(VLAN4, &["10.7.0.11", "10.9.0.12"]);
        services.extend(nat_to(VLAN6, &["fd07::11", "fd09::12"]));
        services.extend(nat_to(VIP4, &["10.7.0.11", "10.9.0.12"]));
        // What backends beside the VLAN say to its VIPs goes by the host.
        for (vlan, host) in [("10.7.0.0/24", "10.9.0.1"), ("fd07::/64", "fd09::1")] {
            let namespace = lan.backend(2);
            run("ip", &["-n", &namespace, "route", "add", vlan, "via", host]);
        }
        let (kernel, _node) = hold(net, &both(net, services)).await;
        for vip in [VLAN4, VLAN6, VIP4] {
            for answers in ask_all(net, vip, 80, 40) {
                let found = by_backend(&answers);
                assert_eq!(
                    found.keys().collect::<Vec<_>>(),
                    [&1, &2],
                    "{vip} {found:?}"
                );
            }
        }
        kernel.remove().await.unwrap();
    });
}
