//! Rebalance: enough, and no more.

use proptest::prelude::*;

use super::*;

/// A cluster of these weights whose nodes hold so many VIPs of one address each.
fn cluster(nodes: &[(u8, usize)]) -> Cluster {
    let mut c = Cluster::of(nodes.len() as u64);
    c.pool("web", &["10.0.0.0/16"]).unwrap();
    for (i, (_, held)) in nodes.iter().enumerate() {
        for j in 0..*held {
            let vip = format!("v{i}-{j}");
            c.vip(&vip, v4()).unwrap();
            c.move_to(&vip, &format!("n{}", i + 1)).unwrap();
        }
    }
    c.release_all();
    for (i, (weight, _)) in nodes.iter().enumerate() {
        c.weigh(&format!("n{}", i + 1), *weight);
    }
    c
}

/// Rebalances; how many addresses that moved.
fn rebalance(c: &mut Cluster) -> usize {
    let holders = |c: &Cluster| -> Vec<_> {
        let all = c.state.allocations().iter();
        all.map(|(a, of)| (a, of.holder)).collect()
    };
    let before = holders(c);
    c.apply(Command::Rebalance).unwrap();
    c.release_all();
    let after = holders(c);
    before.iter().zip(&after).filter(|(a, b)| a != b).count()
}

/// Whether all loads are within one of their shares.
fn balanced(loads: &[usize], weights: &[usize]) -> bool {
    let (all, sum) = (loads.iter().sum::<usize>(), weights.iter().sum::<usize>());
    let pairs = loads.iter().zip(weights);
    pairs
        .into_iter()
        .all(|(load, weight)| (load * sum).abs_diff(all * weight) < sum)
}

#[test]
fn a_node_that_came_back_gets_its_share_and_not_more_moves_than_that() {
    let mut c = cluster(&[(100, 6), (100, 6), (100, 0)]);
    assert_eq!(rebalance(&mut c), 4);
    assert_eq!(c.loads(), [4, 4, 4]);
    assert_eq!(rebalance(&mut c), 0);
}

#[test]
fn nothing_moves_when_every_node_is_within_one_of_its_share() {
    for loads in [[4, 3, 3], [3, 3, 4]] {
        let mut c = cluster(&loads.map(|held| (100, held)));
        assert_eq!(rebalance(&mut c), 0, "{loads:?}");
    }
}

#[test]
fn a_node_of_weight_0_is_emptied() {
    let mut c = cluster(&[(0, 5), (100, 1), (50, 0)]);
    assert_eq!(rebalance(&mut c), 5);
    assert_eq!(c.loads(), [0, 4, 2]);
}

#[test]
fn what_was_rebalanced_is_at_home_where_it_went() {
    let mut c = cluster(&[(100, 2), (100, 0)]);
    for vip in ["v0-0", "v0-1"] {
        let spec = VipSpec {
            failback: Failback::After { delay: Millis(0) },
            ..v4()
        };
        c.vip(vip, spec).unwrap();
    }
    assert_eq!(rebalance(&mut c), 1);
    assert_eq!(c.state.failback_due(), None);
    assert_eq!(c.loads(), [1, 1]);
}

#[test]
fn a_group_moves_as_a_whole_or_not_at_all() {
    let mut c = cluster(&[(100, 0), (100, 0)]);
    for i in 0..4 {
        let spec = VipSpec {
            group: Some(name("db")),
            ..v4()
        };
        c.vip(&format!("g{i}"), spec).unwrap();
    }
    assert_eq!(
        rebalance(&mut c),
        0,
        "the other node would be just as far off"
    );
    for i in 0..2 {
        c.vip(&format!("v{i}"), v4()).unwrap();
        c.move_to(&format!("v{i}"), &c.at("g0").unwrap()).unwrap();
        c.release_all();
    }
    assert_eq!(rebalance(&mut c), 2, "the two single ones make room");
    let mut loads = c.loads();
    loads.sort_unstable();
    assert_eq!(loads, [2, 4]);
}

#[test]
fn subnets_without_a_common_node_do_not_balance_each_other() {
    let mut c = cluster(&[(100, 4), (100, 4)]);
    let token = [9; 32];
    c.apply(Command::Join {
        token,
        name: name("far"),
        peer: SocketAddr::from(([192, 0, 2, 99], 7400)),
        beat_key: [1; 32],
    })
    .unwrap();
    let node = c.id("far");
    let prefixes = vec![Prefix {
        address: ip("172.16.0.250"),
        len: 24,
    }];
    c.apply(Command::NodeUp {
        node,
        version: String::new(),
        interfaces: vec![Interface {
            name: "eth0".into(),
            up: true,
            prefixes,
            mac: crate::node::Mac::default(),
        }],
        labels: Labels::new(),
    })
    .unwrap();
    assert_eq!(rebalance(&mut c), 0, "an empty node that can take nothing");
    c.pool("far", &["172.16.0.0/25"]).unwrap();
    for i in 0..40 {
        let spec = VipSpec {
            pool: Some(name("far")),
            ..v4()
        };
        c.vip(&format!("f{i}"), spec).unwrap();
    }
    assert_eq!(rebalance(&mut c), 0, "a full node that can give nothing");
    assert_eq!(c.loads(), [4, 4, 40]);
}

#[test]
fn vips_that_want_to_be_apart_stay_apart() {
    let mut c = cluster(&[(100, 0), (100, 0)]);
    for vip in ["a", "b"] {
        let spec = VipSpec {
            apart: Some(name("dns")),
            ..v4()
        };
        c.vip(vip, spec).unwrap();
    }
    let full = c.at("a").unwrap();
    for i in 0..2 {
        c.vip(&format!("v{i}"), v4()).unwrap();
        c.move_to(&format!("v{i}"), &full).unwrap();
        c.release_all();
    }
    assert_eq!(rebalance(&mut c), 1);
    assert_ne!(c.at("a"), c.at("b"));
}

/// All ways to put `all` addresses on so many nodes.
fn every_way(all: usize, nodes: usize) -> Vec<Vec<usize>> {
    if nodes == 1 {
        return vec![vec![all]];
    }
    let first = 0..=all;
    first
        .flat_map(|n| {
            let rest = every_way(all - n, nodes - 1);
            rest.into_iter().map(move |rest| [vec![n], rest].concat())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_way_to_balance_moves_fewer_addresses(
        nodes in prop::collection::vec((0u8..=100, 0usize..6), 2..5)
            .prop_filter("somebody must hold them", |nodes| nodes.iter().any(|(weight, _)| *weight > 0)),
    ) {
        let mut c = cluster(&nodes);
        let before = c.loads();
        let weights: Vec<usize> = nodes.iter().map(|(weight, _)| usize::from(*weight)).collect();
        let cost = |to: &[usize]| -> usize {
            before.iter().zip(to).map(|(had, has)| had.saturating_sub(*has)).sum()
        };
        let all = before.iter().sum();
        let least = every_way(all, nodes.len()).into_iter()
            .filter(|way| balanced(way, &weights))
            .map(|way| cost(&way)).min();
        let moved = rebalance(&mut c);
        prop_assert!(balanced(&c.loads(), &weights), "{:?} of {:?}", c.loads(), weights);
        prop_assert_eq!(Some(moved), least, "{:?} -> {:?} of {:?}", before, c.loads(), weights);
        prop_assert_eq!(rebalance(&mut c), 0, "twice is once");
    }

    #[test]
    fn with_groups_it_ends_moves_nothing_the_second_time_and_makes_nothing_worse(
        nodes in prop::collection::vec((1u8..=100, 0usize..4), 2..5),
        groups in prop::collection::vec((0usize..4, 1usize..5), 0..4),
    ) {
        let mut c = cluster(&nodes);
        for (g, (at, size)) in groups.iter().enumerate() {
            for i in 0..*size {
                let spec = VipSpec { group: Some(name(&format!("g{g}"))), ..v4() };
                c.vip(&format!("g{g}-{i}"), spec).unwrap();
            }
            let to = format!("n{}", at % nodes.len() + 1);
            c.move_to(&format!("g{g}-0"), &to).unwrap();
            c.release_all();
        }
        let far_off = |c: &Cluster| -> u128 {
            let (all, sum) = (c.loads().iter().sum::<usize>(), nodes.iter().map(|(w, _)| usize::from(*w)).sum::<usize>());
            let off = |(load, (weight, _)): (usize, &(u8, usize))| (load * sum).abs_diff(all * usize::from(*weight)) as u128;
            c.loads().into_iter().zip(&nodes).map(off).map(|off| off * off).sum()
        };
        let before = far_off(&c);
        let moved = rebalance(&mut c);
        let better = if moved == 0 { far_off(&c) == before } else { far_off(&c) < before };
        prop_assert!(better, "{} moved", moved);
        prop_assert_eq!(rebalance(&mut c), 0);
    }
}
