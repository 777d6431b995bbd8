//! Weights, labels, drains: what the operator says of nodes.

use super::super::failback::SUPPORTED;
use super::*;

fn cluster(vips: usize) -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    more(&mut c, 0..vips);
    c
}

fn more(c: &mut Cluster, numbers: core::ops::Range<usize>) {
    for i in numbers {
        c.vip(&format!("v{i}"), v4()).unwrap();
    }
}

#[test]
fn placement_follows_the_weights() {
    let mut c = cluster(0);
    c.weigh("n2", 50);
    c.weigh("n3", 25);
    more(&mut c, 0..70);
    assert_eq!(c.loads(), [40, 20, 10]);
}

#[test]
fn a_node_of_weight_0_keeps_what_it_has_and_is_given_nothing() {
    let mut c = cluster(9);
    c.weigh("n1", 0);
    c.release_all();
    assert_eq!(c.loads(), [3, 3, 3], "it is not drained");
    more(&mut c, 9..15);
    assert_eq!(c.loads(), [3, 6, 6]);
    c.down(NodeId(3)).unwrap();
    assert_eq!(c.loads()[0], 3, "nor is it a runner-up");
    let refused = c.move_to("v1", "n1").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "node n1 cannot hold it: its weight is 0"
    );
}

#[test]
fn a_changed_weight_moves_nothing_by_itself() {
    let mut c = cluster(9);
    c.weigh("n1", 1);
    c.release_all();
    assert_eq!(c.loads(), [3, 3, 3]);
}

#[test]
fn a_node_that_joins_moves_nothing_by_itself() {
    let mut c = cluster(9);
    c.down(NodeId(3)).unwrap();
    let spread = c.loads();
    c.up(NodeId(3));
    c.release_all();
    assert_eq!(c.loads(), spread);
}

#[test]
fn labels_that_were_set_win_over_those_of_the_configuration_until_they_are_taken_back() {
    let mut c = cluster(0);
    let set = |value: Option<&str>| Command::SetNode {
        node: name("n1"),
        weight: None,
        labels: [("rack".into(), value.map(Into::into))].into(),
        drained: None,
        expect: Expect::Any,
    };
    let up = |rack: &str| Command::NodeUp {
        node: NodeId(1),
        version: String::new(),
        interfaces: subnets(true),
        labels: [("rack".to_string(), rack.to_string())].into(),
    };
    let rack = |c: &Cluster| {
        c.state
            .node(NodeId(1))
            .unwrap()
            .labels()
            .get("rack")
            .cloned()
    };
    c.apply(up("a")).unwrap();
    c.apply(set(Some("z"))).unwrap();
    c.apply(up("b")).unwrap();
    assert_eq!(rack(&c).as_deref(), Some("z"), "a restart changes nothing");
    c.apply(set(None)).unwrap();
    assert_eq!(rack(&c).as_deref(), Some("b"));
}

#[test]
fn a_change_of_a_node_that_somebody_else_has_changed_is_refused() {
    let mut c = cluster(0);
    let revision = c.state.node(NodeId(1)).unwrap().revision;
    c.weigh("n1", 7);
    let late = Command::SetNode {
        node: name("n1"),
        weight: Some(Weight::MAX),
        labels: [].into(),
        drained: None,
        expect: Expect::At { revision },
    };
    assert_eq!(Cluster::refusal(c.apply(late)), "revision_mismatch");
}

#[test]
fn a_move_that_is_under_way_is_finished_before_another_one_begins() {
    let mut c = cluster(1);
    let home = c.at("v0").unwrap();
    c.move_to("v0", "n3").unwrap();
    assert_eq!(Cluster::refusal(c.move_to("v0", &home)), "on_its_way");
    c.move_to("v0", "n3").unwrap();
    c.release_all();
    assert_eq!(c.at("v0").as_deref(), Some("n3"));
    c.move_to("v0", &home).unwrap();
    c.release_all();
    assert_eq!(c.at("v0"), Some(home));
}

#[test]
fn a_vip_whose_new_node_is_lost_while_its_holder_is_drained_stays_until_another_can_take_it() {
    let mut c = cluster(1);
    let home = c.at("v0").unwrap();
    let others: Vec<NodeId> = c.ids();
    let others: Vec<NodeId> = others.into_iter().filter(|id| *id != c.id(&home)).collect();
    let (last, lost) = (others[0], &others[1..]);
    for id in lost {
        c.down(*id).unwrap();
    }
    c.drain(&home, true);
    let of = c.state.allocations()[&ip("10.0.0.0")].clone();
    assert_eq!((of.vacating.is_some(), of.next), (true, Some(last)));
    let release = Command::Released {
        node: of.holder.unwrap(),
        addresses: vec![(ip("10.0.0.0"), of.epoch)],
    };
    c.down(last).unwrap();
    c.apply(release).unwrap();
    assert_eq!(
        c.at("v0").as_ref(),
        Some(&home),
        "better a drained one than none"
    );
    assert_eq!(c.state.allocations()[&ip("10.0.0.0")].vacating, None);
    c.up(last);
    c.release_all();
    assert_eq!(c.holder("10.0.0.0"), Some(last));
}

#[test]
fn a_move_whose_target_dies_before_the_holder_let_go_ends_where_it_began() {
    let mut c = cluster(1);
    let home = c.at("v0").unwrap();
    c.move_to("v0", "n3").unwrap();
    c.down(c.id("n3")).unwrap();
    assert_eq!(
        c.state.allocations()[&ip("10.0.0.0")].vacating,
        None,
        "it need not let go any more"
    );
    c.release_all();
    assert_eq!(c.at("v0"), Some(home));
}

#[test]
fn a_drained_node_s_load_is_spread_evenly_even_if_it_lets_go_bit_by_bit() {
    let mut c = cluster(12);
    c.drain("n2", true);
    let next: Vec<_> = c
        .state
        .allocations()
        .values()
        .filter_map(|of| of.next)
        .collect();
    let to = |id| next.iter().filter(|next| **next == NodeId(id)).count();
    assert_eq!((to(1), to(4)), (2, 2));
    c.release_all();
    assert_eq!(c.loads(), [6, 0, 6]);
}

#[test]
fn a_drain_prefers_a_node_that_has_been_up_for_a_while_and_takes_one_that_has_just_come_if_it_must()
{
    let mut c = cluster(0);
    c.pass(SUPPORTED.0);
    more(&mut c, 0..4);
    c.down(c.id("n3")).unwrap();
    c.up(c.id("n3"));
    assert_eq!(c.loads(), [2, 2, 0]);
    c.drain("n1", true);
    c.release_all();
    assert_eq!(c.loads(), [0, 4, 0], "though n3 has nothing to do");
    c.drain("n2", true);
    c.release_all();
    assert_eq!(c.loads(), [0, 0, 4], "better than none");
}

#[test]
fn a_drain_goes_by_load_again_a_second_after_a_node_came() {
    let mut c = cluster(4);
    c.down(c.id("n3")).unwrap();
    c.up(c.id("n3"));
    c.pass(SUPPORTED.0);
    c.drain("n1", true);
    c.release_all();
    assert_eq!(c.loads(), [0, 2, 2]);
}
