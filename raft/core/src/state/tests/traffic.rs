//! Traffic policy local: VIPs that are on nodes with a backend of their own only.

use super::*;
use crate::node::{Interface, Prefix};
use crate::rejection::Rejection;
use crate::service::{Backend, Backends, Endpoint, Mode, Port, PortSpec, Protocol, TrafficPolicy};

/// Backends `10.9.0.x`, each on a node, with its weight.
fn on(nodes: &[(&str, u16)]) -> Backends {
    let backends = nodes.iter().zip(1u8..).map(|((node, weight), i)| {
        let address = IpAddr::from([10, 9, 0, i]);
        let backend = Backend {
            weight: *weight,
            node: Some(name(node)),
        };
        (Endpoint { address, port: 0 }, backend)
    });
    backends.collect()
}

fn local(port: u16, backends: Backends) -> VipSpec {
    let protocol = Protocol::Tcp;
    VipSpec {
        mode: Mode::Nat,
        ports: [(Port { protocol, port }, PortSpec::default())].into(),
        backends,
        traffic: TrafficPolicy::Local,
        ..v4()
    }
}

fn cluster() -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c
}

#[test]
fn a_vip_follows_its_backends_from_node_to_node() {
    let mut c = cluster();
    c.vip("www", local(80, on(&[("n3", 1)]))).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
    c.vip("www", local(80, on(&[("n2", 1), ("n3", 1)])))
        .unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"), "it may stay");
    c.vip("www", local(80, on(&[("n2", 1)]))).unwrap();
    c.release_all();
    assert_eq!(c.at("www").as_deref(), Some("n2"));
    c.vip("www", local(80, on(&[("n1", 1), ("n2", 0)])))
        .unwrap();
    c.release_all();
    assert_eq!(
        c.at("www").as_deref(),
        Some("n1"),
        "one that drains is none"
    );
    let anywhere = VipSpec {
        traffic: TrafficPolicy::Cluster,
        ..local(80, on(&[("n3", 1)]))
    };
    c.vip("www", anywhere).unwrap();
    c.release_all();
    assert_eq!(c.at("www").as_deref(), Some("n1"), "nothing makes it move");
}

#[test]
fn nobody_without_a_backend_takes_over_and_nobody_moves_it_there() {
    let mut c = cluster();
    c.vip("www", local(80, on(&[("n2", 1), ("n3", 1)])))
        .unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n2"));
    let Err(Rejection::CannotHold { why, .. }) = c.move_to("www", "n1") else {
        panic!("moved");
    };
    assert!(why.contains("none of its backends is there"), "{why}");
    c.down(c.id("n2")).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
    c.down(c.id("n3")).unwrap();
    let address = c.addresses("www")[0].clone();
    assert_ne!(c.holder(&address), Some(c.id("n1")));
}

#[test]
fn a_backend_that_is_where_a_node_is_needs_no_name() {
    let mut c = cluster();
    let at = Endpoint {
        address: c.state.node_named(&name("n3")).unwrap().peer.ip(),
        port: 8080,
    };
    c.vip("www", local(80, [(at, Backend::default())].into()))
        .unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
    // Its address goes to another node's interface.
    let (mut before, n1) = (subnets(true), c.id("n1"));
    let extra = Endpoint {
        address: ip("10.0.200.1"),
        port: 8080,
    };
    before.push(Interface {
        name: "eth1".into(),
        up: true,
        prefixes: vec![Prefix {
            address: extra.address,
            len: 32,
        }],
        ..before[0].clone()
    });
    c.vip("www", local(80, [(extra, Backend::default())].into()))
        .unwrap();
    c.release_all();
    c.apply(Command::NodeReport {
        node: n1,
        interfaces: before,
        membership: 0,
    })
    .unwrap();
    c.release_all();
    assert_eq!(c.at("www").as_deref(), Some("n1"));
}

#[test]
fn vips_share_an_address_if_their_backends_are_in_the_same_places_and_are_where_each_has_one() {
    let mut c = cluster();
    let shared = |port, backends| VipSpec {
        sharing_key: Some("k".into()),
        ..local(port, backends)
    };
    c.vip("a", shared(80, on(&[("n1", 1), ("n2", 1)]))).unwrap();
    assert_eq!(c.at("a").as_deref(), Some("n1"));
    // It would take a from n1, or off the air.
    c.vip("elsewhere", shared(444, on(&[("n2", 1), ("n3", 1)])))
        .unwrap();
    assert_ne!(c.addresses("a"), c.addresses("elsewhere"));
    assert_eq!(c.at("a").as_deref(), Some("n1"));
    c.vip("b", shared(443, on(&[("n1", 0), ("n2", 1)])))
        .unwrap();
    c.release_all();
    assert_eq!(c.addresses("a"), c.addresses("b"));
    assert_eq!(
        (c.at("a").as_deref(), c.at("b").as_deref()),
        (Some("n2"), Some("n2"))
    );
    let other = VipSpec {
        traffic: TrafficPolicy::Cluster,
        ..shared(8080, on(&[("n1", 1)]))
    };
    c.vip("c", other).unwrap();
    assert_ne!(c.addresses("a"), c.addresses("c"));
}
