//! VIPs that go elsewhere when all of their backends are down.

use alloc::sync::Arc;

use super::*;
use crate::event::{Cause, What};
use crate::health::{AllDown, Check, Question};
use crate::rejection::Rejection;
use crate::service::{Backend, Endpoint, Mode, Port, PortSpec, Protocol};

pub(super) fn leaves_when_all_are_down() -> Arc<Check> {
    Arc::new(Check {
        question: Question::Tcp,
        port: 80,
        interval: Millis(1000),
        timeout: Millis(1000),
        fall: 3,
        rise: 2,
        all_down: AllDown::Withdraw,
    })
}

fn leaving() -> VipSpec {
    let backend = Endpoint {
        address: ip("10.9.0.1"),
        port: 0,
    };
    let port = Port {
        protocol: Protocol::Tcp,
        port: 80,
    };
    VipSpec {
        families: Families::Ipv4,
        mode: Mode::Nat,
        ports: [(port, PortSpec::default())].into(),
        backends: [(backend, Backend::default())].into(),
        health: Some(leaves_when_all_are_down()),
        ..VipSpec::default()
    }
}

/// Three nodes, and a VIP `www` on the first.
fn cluster() -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c.vip("www", leaving()).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n1"));
    c
}

#[test]
fn a_vip_of_mode_local_leaves_a_node_whose_own_program_is_down_until_it_is_another_vip() {
    let mut c = cluster();
    let local = || VipSpec {
        mode: Mode::Local,
        backends: Default::default(),
        ..leaving()
    };
    c.vip("www", local()).unwrap();
    says(&mut c, "n1", true).unwrap();
    assert_ne!(c.at("www").as_deref(), Some("n1"));
    let blind = |c: &Cluster| c.state.blind_to(&name("www")).count();
    assert_eq!(blind(&c), 1);
    // Balanced, even over nobody, is another matter.
    c.vip(
        "www",
        VipSpec {
            mode: Mode::Nat,
            ..local()
        },
    )
    .unwrap();
    assert_eq!(blind(&c), 0);
}

#[test]
fn a_nodes_program_is_asked_in_the_subnet_of_the_vip_or_at_least_in_its_family() {
    let interface = |name: &str, up: bool, own: &[(&str, u8)]| Interface {
        name: name.into(),
        prefixes: own
            .iter()
            .map(|(own, len)| Prefix {
                address: ip(own),
                len: *len,
            })
            .collect(),
        ..subnets(up).remove(0)
    };
    let mut c = cluster();
    let node = c.id("n1");
    let interfaces = alloc::vec![
        interface("lan0", true, &[("192.0.2.1", 24), ("2001:db8::1", 64)]),
        interface("lan1", true, &[("198.51.100.1", 24)]),
        interface("lan2", false, &[("203.0.113.1", 24)]),
    ];
    c.apply(Command::NodeReport {
        node,
        interfaces,
        membership: 0,
    })
    .unwrap();
    let beside = |c: &Cluster, vip| c.state.node(node).unwrap().beside(ip(vip));
    for (vip, own) in [
        ("198.51.100.7", "198.51.100.1"),
        ("192.0.2.7", "192.0.2.1"),
        ("203.0.113.7", "192.0.2.1"),
        ("2001:db8:1::7", "2001:db8::1"),
    ] {
        assert_eq!(beside(&c, vip), Some(ip(own)), "{vip}");
    }
    c.apply(Command::NodeReport {
        node,
        interfaces: alloc::vec![interface("lan1", true, &[("198.51.100.1", 24)])],
        membership: 0,
    })
    .unwrap();
    assert_eq!(beside(&c, "2001:db8::7"), None);
}

fn says(c: &mut Cluster, node: &str, down: bool) -> Outcome {
    let node = c.id(node);
    let vip = name("www");
    let outcome = c.apply(Command::Sight { node, vip, down });
    c.release_all();
    outcome
}

fn moves(c: &Cluster) -> usize {
    let events = c.state.events().iter();
    let moved = |what: &What| match what {
        What::HolderChanged { cause, .. } => *cause == Cause::Withdrawn,
        _ => false,
    };
    events.filter(|event| moved(&event.what)).count()
}

#[test]
fn it_leaves_a_node_that_sees_all_down_until_everybody_does_and_then_it_stays() {
    let mut c = cluster();
    says(&mut c, "n1", true).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n2"));
    says(&mut c, "n2", true).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
    says(&mut c, "n3", true).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"), "nobody sees more");
    assert_eq!(moves(&c), 2);
    // Said again, or by one who is no member, it is no news.
    says(&mut c, "n3", true).unwrap();
    assert_eq!(moves(&c), 2);
    let (node, vip, down) = (NodeId(99), name("www"), true);
    assert!(c.apply(Command::Sight { node, vip, down }).is_err());
}

#[test]
fn whoever_sees_one_up_again_gets_it_from_one_who_does_not() {
    let mut c = cluster();
    for node in ["n1", "n2", "n3"] {
        says(&mut c, node, true).unwrap();
    }
    says(&mut c, "n2", false).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n2"));
    says(&mut c, "n1", false).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n2"), "it may stay");
    says(&mut c, "n2", true).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n1"), "n3 sees none");
}

#[test]
fn a_loss_and_a_drain_prefer_nodes_that_see_some_to_those_that_do_not() {
    let mut c = cluster();
    says(&mut c, "n2", true).unwrap();
    let address = ip(&c.addresses("www")[0]);
    assert_eq!(c.state.runner_up(address), Some(c.id("n3")));
    c.down(c.id("n1")).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
    // Better a node that sees none than none.
    c.down(c.id("n3")).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n2"));
    // And as soon as there is another one, it goes there.
    c.up(c.id("n3"));
    c.release_all();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
}

#[test]
fn it_fails_back_only_to_a_home_that_sees_some() {
    let mut c = cluster();
    let spec = VipSpec {
        failback: Failback::After { delay: Millis(0) },
        ..leaving()
    };
    c.vip("www", spec).unwrap();
    c.pass(2000);
    says(&mut c, "n1", true).unwrap();
    assert_eq!(c.at("www").as_deref(), Some("n2"));
    assert_eq!(c.state.failback_due(), None);
    says(&mut c, "n1", false).unwrap();
    assert!(c.state.failback_due().is_some());
    c.apply(Command::FailBack).unwrap();
    c.release_all();
    assert_eq!(c.at("www").as_deref(), Some("n1"));
}

#[test]
fn nobody_moves_it_to_a_node_that_sees_none_from_one_that_does() {
    let mut c = cluster();
    says(&mut c, "n2", true).unwrap();
    let Err(Rejection::CannotHold { why, .. }) = c.move_to("www", "n2") else {
        panic!("moved");
    };
    assert!(why.contains("all backends of VIP www are down"), "{why}");
    c.move_to("www", "n3").unwrap();
    c.apply(Command::Rebalance).unwrap();
    c.release_all();
    assert_eq!(c.at("www").as_deref(), Some("n3"));
}

#[test]
fn what_was_said_of_other_backends_or_by_a_node_that_is_gone_is_forgotten() {
    let mut c = cluster();
    says(&mut c, "n2", true).unwrap();
    let blind = |c: &Cluster| c.state.blind_to(&name("www")).count();
    assert_eq!(blind(&c), 1);
    let mut spec = leaving();
    c.vip(
        "www",
        VipSpec {
            failback: Failback::After { delay: Millis(1) },
            ..spec.clone()
        },
    )
    .unwrap();
    assert_eq!(blind(&c), 1, "its backends are the same");
    spec.backends.clear();
    c.vip("www", spec).unwrap();
    assert_eq!(blind(&c), 0);

    says(&mut c, "n2", true).unwrap();
    c.down(c.id("n2")).unwrap();
    c.apply(Command::RemoveNode { node: name("n2") }).unwrap();
    assert_eq!(blind(&c), 0);

    says(&mut c, "n1", true).unwrap();
    let stays = VipSpec {
        health: None,
        ..leaving()
    };
    c.vip("www", stays).unwrap();
    assert_eq!(blind(&c), 0);
    let why = says(&mut c, "n1", true).unwrap_err().to_string();
    assert!(why.contains("stays where it is"), "{why}");
}

#[test]
fn a_group_stays_together_and_goes_where_fewest_of_its_vips_are_without_backends() {
    let mut c = cluster();
    let in_group = || VipSpec {
        group: Some(name("g")),
        ..leaving()
    };
    c.vip("www", in_group()).unwrap();
    c.vip("ftp", in_group()).unwrap();
    c.release_all();
    assert_eq!(c.at("www"), c.at("ftp"));
    let home = c.at("www").unwrap();
    says(&mut c, &home, true).unwrap();
    c.release_all();
    assert_eq!(c.at("www"), c.at("ftp"));
    assert_ne!(c.at("www").as_ref(), Some(&home));
}
