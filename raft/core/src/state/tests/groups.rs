//! Groups move as one; keys keep apart.

use super::*;

fn of(group: &str) -> VipSpec {
    VipSpec {
        group: Some(name(group)),
        ..v4()
    }
}

fn apart(key: &str) -> VipSpec {
    VipSpec {
        apart: Some(name(key)),
        ..v4()
    }
}

/// A cluster whose nodes' loads differ, so that members on their own would be spread.
fn cluster() -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c
}

fn together(c: &Cluster, vips: &[&str]) -> Option<String> {
    let holders: Vec<_> = vips.iter().map(|vip| c.at(vip)).collect();
    assert!(
        holders.windows(2).all(|two| two[0] == two[1]),
        "{holders:?}"
    );
    holders[0].clone()
}

#[test]
fn vips_of_a_group_are_placed_on_one_node() {
    let mut c = cluster();
    for vip in ["a", "b", "c", "d"] {
        c.vip(vip, of("db")).unwrap();
    }
    together(&c, &["a", "b", "c", "d"]);
    c.vip("other", v4()).unwrap();
    assert_ne!(c.at("other"), c.at("a"), "others are spread as ever");
}

#[test]
fn moving_one_vip_of_a_group_moves_all() {
    let mut c = cluster();
    c.vip("a", of("db")).unwrap();
    c.vip("b", of("db")).unwrap();
    c.move_to("b", "n3").unwrap();
    c.release_all();
    assert_eq!(together(&c, &["a", "b"]).unwrap(), "n3");
}

#[test]
fn a_move_is_refused_as_a_whole_if_one_member_cannot_go() {
    let mut c = cluster();
    c.pool("far", &["172.16.0.0/24"]).unwrap();
    c.vip("a", of("db")).unwrap();
    let far = VipSpec {
        pool: Some(name("far")),
        ..of("db")
    };
    c.vip("b", far).unwrap();
    assert_eq!(c.at("b"), None, "no node can hold all of the group");
    assert_eq!(Cluster::refusal(c.move_to("a", "n2")), "cannot_hold");
}

#[test]
fn a_lost_group_goes_to_one_node_and_its_runner_up_is_the_same_for_all() {
    let mut c = cluster();
    for vip in ["a", "b", "c", "d", "e"] {
        c.vip(vip, of("db")).unwrap();
    }
    let holder = c.id(&together(&c, &["a", "e"]).unwrap());
    let loss = c.state.loss(holder);
    let next: std::collections::BTreeSet<_> = loss.values().collect();
    assert_eq!((loss.len(), next.len()), (5, 1));
    c.down(holder).unwrap();
    let now = c.id(&together(&c, &["a", "b", "c", "d", "e"]).unwrap());
    assert_eq!(next.into_iter().next(), Some(&Some(now)));
}

#[test]
fn a_vip_that_joins_a_group_goes_where_the_group_is() {
    let mut c = cluster();
    c.vip("a", of("db")).unwrap();
    c.vip("b", v4()).unwrap();
    assert_ne!(c.at("a"), c.at("b"));
    let before = c.at("a");
    c.vip("b", of("db")).unwrap();
    c.release_all();
    assert_eq!(together(&c, &["a", "b"]), before);
}

#[test]
fn a_group_of_which_one_address_lost_its_link_moves_as_a_whole() {
    let mut c = cluster();
    let two = |left: bool, right: bool| {
        let half = |name: &str, up, address, len| Interface {
            name: name.into(),
            up,
            prefixes: vec![Prefix {
                address: ip(address),
                len,
            }],
            mac: crate::node::Mac::default(),
        };
        vec![
            half("left", left, "10.0.0.200", 25),
            half("right", right, "10.0.0.100", 25),
        ]
    };
    for id in c.ids() {
        c.apply(Command::NodeReport {
            node: id,
            interfaces: two(true, true),
            membership: 0,
        })
        .unwrap();
    }
    let asks = |address: &str| VipSpec {
        addresses: vec![ip(address)],
        ..of("edge")
    };
    c.vip("in", asks("10.0.0.10")).unwrap();
    c.vip("out", asks("10.0.0.210")).unwrap();
    let holder = together(&c, &["in", "out"]).unwrap();
    let node = c.id(&holder);
    c.apply(Command::NodeReport {
        node,
        interfaces: two(true, false),
        membership: 0,
    })
    .unwrap();
    c.release_all();
    assert_ne!(together(&c, &["in", "out"]), Some(holder));
}

#[test]
fn vips_that_want_to_be_apart_are_on_different_nodes_while_there_are_enough() {
    let mut c = cluster();
    // Load alone would put the second beside the first.
    for (vip, to) in [("x", "n2"), ("y", "n3")] {
        c.vip(vip, v4()).unwrap();
        c.move_to(vip, to).unwrap();
        c.release_all();
    }
    for vip in ["a", "b", "c"] {
        c.vip(vip, apart("dns")).unwrap();
    }
    let mut at: Vec<_> = ["a", "b", "c"].map(|vip| c.at(vip).unwrap()).into();
    at.sort();
    assert_eq!(at, ["n1", "n2", "n3"]);
    c.vip("d", apart("dns")).unwrap();
    assert!(c.at("d").is_some(), "a wish, not a condition");
}

#[test]
fn two_that_want_to_be_apart_and_are_lost_together_part_again() {
    let mut c = cluster();
    c.vip("a", apart("dns")).unwrap();
    c.vip("b", apart("dns")).unwrap();
    c.move_to("a", "n3").unwrap();
    c.move_to("b", "n3").unwrap();
    c.release_all();
    c.down(c.id("n3")).unwrap();
    assert_ne!(c.at("a"), c.at("b"));
}
