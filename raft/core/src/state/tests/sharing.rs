//! Sharing: VIPs with the same key and different ports may have the same address, which has one holder all the same.

use super::*;
use crate::service::{Port, PortSpec, Protocol};

/// A VIP with this sharing key that claims these ports: `tcp/80`.
fn shares(key: &str, ports: &[&str]) -> VipSpec {
    let port = |text: &&str| {
        let (protocol, port) = text.split_once('/').unwrap();
        let port = Port {
            protocol: match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                other => panic!("{other}"),
            },
            port: port.parse().unwrap(),
        };
        (port, PortSpec::default())
    };
    VipSpec {
        families: Families::Ipv4,
        sharing_key: Some(key.into()),
        ports: ports.iter().map(port).collect(),
        ..VipSpec::default()
    }
}

fn at(address: &str, spec: VipSpec) -> VipSpec {
    VipSpec {
        addresses: vec![ip(address)],
        ..spec
    }
}

fn delete(c: &mut Cluster, vip: &str) {
    c.apply(Command::DeleteVip {
        name: name(vip),
        expect: Expect::Any,
    })
    .unwrap();
}

/// A cluster of two nodes with a pool of four addresses.
fn cluster() -> Cluster {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.0/30"]).unwrap();
    c
}

#[test]
fn vips_of_one_key_share_an_address_as_long_as_their_ports_differ() {
    let mut c = cluster();
    c.vip("a", shares("k", &["tcp/80"])).unwrap();
    c.vip("b", shares("k", &["tcp/443"])).unwrap();
    c.vip("c", shares("k", &["udp/80"])).unwrap();
    c.vip("other", shares("x", &["tcp/8080"])).unwrap();
    for vip in ["a", "b", "c"] {
        assert_eq!(c.addresses(vip), ["10.0.0.0"], "{vip}");
    }
    assert_eq!(c.addresses("other"), ["10.0.0.1"]);
    // A port that is taken: another address joins the key's.
    c.vip("d", shares("k", &["tcp/80"])).unwrap();
    assert_eq!(c.addresses("d"), ["10.0.0.2"]);
    c.vip("e", shares("k", &["tcp/443"])).unwrap();
    assert_eq!(c.addresses("e"), ["10.0.0.2"], "the key's other address");
}

#[test]
fn a_shared_address_has_one_holder_and_moves_with_whichever_of_its_vips_is_moved() {
    let mut c = cluster();
    c.vip("a", shares("k", &["tcp/80"])).unwrap();
    c.vip("b", shares("k", &["tcp/443"])).unwrap();
    assert_eq!(c.holder("10.0.0.0"), Some(NodeId(1)));
    c.move_to("b", "n2").unwrap();
    c.release_all();
    assert_eq!(c.holder("10.0.0.0"), Some(c.id("n2")));
}

#[test]
fn an_address_is_freed_with_its_last_vip_and_keeps_its_holder_until_then() {
    let mut c = cluster();
    c.vip("a", shares("k", &["tcp/80"])).unwrap();
    c.vip("b", shares("k", &["tcp/443"])).unwrap();
    let epoch = c.state.allocations()[&ip("10.0.0.0")].epoch;
    delete(&mut c, "a");
    let left = &c.state.allocations()[&ip("10.0.0.0")];
    assert_eq!(
        (&left.vip, left.epoch, left.vacating),
        (&name("b"), epoch, None)
    );
    delete(&mut c, "b");
    c.release_all();
    assert!(c.state.allocations().is_empty());
}

#[test]
fn of_two_that_no_longer_fit_the_changed_one_moves() {
    let mut c = cluster();
    c.vip("a", shares("k", &["tcp/80"])).unwrap();
    c.vip("b", shares("k", &["tcp/443"])).unwrap();
    c.vip("a", shares("k", &["tcp/80", "tcp/443"])).unwrap();
    assert_eq!(
        (c.addresses("a"), c.addresses("b")),
        (vec!["10.0.0.1".into()], vec!["10.0.0.0".to_string()])
    );
    c.vip("b", shares("x", &["tcp/443"])).unwrap();
    assert_eq!(
        c.addresses("b"),
        ["10.0.0.0"],
        "alone there, it may change its key"
    );
    c.vip("c", shares("x", &["tcp/1"])).unwrap();
    assert_eq!(c.addresses("c"), ["10.0.0.0"]);
}

#[test]
fn a_key_that_a_live_vip_is_given_later_does_not_change_its_address() {
    let mut c = cluster();
    let plain = VipSpec {
        sharing_key: None,
        ..shares("k", &["tcp/80"])
    };
    c.vip("a", plain).unwrap();
    c.vip("a", shares("k", &["tcp/80"])).unwrap();
    c.vip("b", shares("k", &["tcp/81"])).unwrap();
    assert_eq!(
        (c.addresses("a"), c.addresses("b")),
        (vec!["10.0.0.0".into()], vec!["10.0.0.0".to_string()])
    );
}

#[test]
fn an_address_asked_for_by_two_is_shared_or_the_second_is_told_why_not() {
    let mut c = cluster();
    c.vip("a", at("10.0.0.3", shares("k", &["tcp/80"])))
        .unwrap();
    c.vip("b", at("10.0.0.3", shares("k", &["tcp/443"])))
        .unwrap();
    assert_eq!(c.addresses("b"), ["10.0.0.3"]);
    assert_eq!(
        c.waits("c", at("10.0.0.3", shares("k", &["tcp/80"]))),
        "already_allocated_incompatible"
    );
    let unmet = &c.state.vips()[&name("c")].unmet[0];
    assert_eq!(
        unmet.why.to_string(),
        "address 10.0.0.3 belongs to VIP a: same port and protocol: TCP 80"
    );
    let plain = VipSpec {
        sharing_key: None,
        ..shares("", &["tcp/1"])
    };
    assert_eq!(c.waits("d", at("10.0.0.3", plain)), "already_allocated");
    // The port is given up: who waited for it comes in.
    c.vip("a", at("10.0.0.3", shares("k", &["tcp/81"])))
        .unwrap();
    assert_eq!(c.addresses("c"), ["10.0.0.3"]);
}

#[test]
fn a_reserved_address_is_refused_with_a_key_as_without() {
    let mut c = Cluster::of(1);
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.0.0/29").unwrap()],
        allow_first_last: false,
        ..PoolSpec::default()
    };
    c.apply(Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: crate::pool::Care::default(),
    })
    .unwrap();
    for vip in ["a", "b"] {
        assert_eq!(
            c.waits(vip, at("10.0.0.0", shares("k", &["tcp/80"]))),
            "reserved"
        );
    }
}

#[test]
fn a_shared_address_is_announced_only_where_every_one_of_its_vips_may_be() {
    let mut c = cluster();
    let policy = |app: &str, node: &str| {
        use crate::policy::PolicySpec;
        use crate::selector::{NAME_LABEL, Selector};
        let select = |key: &str, value: &str| Selector {
            match_labels: [(key.to_string(), value.to_string())].into(),
            ..Selector::default()
        };
        Command::PutPolicy {
            name: name(app),
            labels: Labels::new(),
            spec: PolicySpec {
                vips: select(NAME_LABEL, app),
                nodes: select(NAME_LABEL, node),
                interfaces: Vec::new(),
            },
            expect: Expect::Any,
        }
    };
    c.vip("a", shares("k", &["tcp/80"])).unwrap();
    c.vip("b", shares("k", &["tcp/443"])).unwrap();
    c.apply(policy("b", "n2")).unwrap();
    c.release_all();
    assert_eq!(c.holder("10.0.0.0"), Some(c.id("n2")));
    delete(&mut c, "b");
    c.apply(policy("a", "n1")).unwrap();
    c.release_all();
    assert_eq!(c.holder("10.0.0.0"), Some(c.id("n1")));
}
