//! The stories an operator would tell.

use super::*;

#[test]
fn a_dual_stack_vip_gets_the_next_free_address_of_each_family_and_one_holder() {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.10-10.0.0.12", "fd00::/120"])
        .unwrap();
    c.vip("a", dual()).unwrap();
    c.vip("b", dual()).unwrap();
    assert_eq!(c.addresses("a"), ["10.0.0.10", "fd00::"]);
    assert_eq!(c.addresses("b"), ["10.0.0.11", "fd00::1"]);
    assert_eq!(
        c.holder("10.0.0.10"),
        c.holder("fd00::"),
        "one VIP stays on one node"
    );
    assert_ne!(
        c.holder("10.0.0.10"),
        c.holder("10.0.0.11"),
        "two VIPs spread"
    );
}

#[test]
fn a_lost_node_s_addresses_go_to_their_runners_up_under_a_newer_epoch() {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    for i in 0..30 {
        c.vip(
            &format!("v{i}"),
            VipSpec {
                families: Families::Ipv4,
                ..VipSpec::default()
            },
        )
        .unwrap();
    }
    let lost = NodeId(1);
    let before: Vec<_> = c.state.held_by(lost).map(|(ip, a)| (ip, a.epoch)).collect();
    assert_eq!(before.len(), 10, "spread evenly");
    c.down(lost).unwrap();
    assert_eq!(c.state.held_by(lost).count(), 0);
    for (address, epoch) in before {
        let allocation = &c.state.allocations()[&address];
        assert!(allocation.holder.is_some() && allocation.epoch > epoch);
    }
    let loads: Vec<_> = c
        .ids()
        .into_iter()
        .map(|id| c.state.held_by(id).count())
        .collect();
    assert_eq!(
        loads,
        [0, 15, 15],
        "the lost load is spread, not piled on one node"
    );
}

#[test]
fn an_off_subnet_node_or_one_whose_link_is_down_is_never_chosen() {
    let mut c = Cluster::of(2);
    c.pool("far", &["172.16.0.0/24"]).unwrap();
    c.vip(
        "far",
        VipSpec {
            families: Families::Ipv4,
            ..VipSpec::default()
        },
    )
    .unwrap();
    assert_eq!(c.holder("172.16.0.0"), None);
    c.vip(
        "named",
        VipSpec {
            interface: Some("eth0".into()),
            families: Families::Ipv4,
            ..VipSpec::default()
        },
    )
    .unwrap();
    assert!(
        c.holder("172.16.0.1").is_some(),
        "an explicit interface overrides the subnet"
    );
    c.pool("near", &["10.0.0.0/24"]).unwrap();
    for id in c.ids() {
        c.apply(Command::NodeReport {
            node: id,
            interfaces: subnets(false),
            membership: 0,
        })
        .unwrap();
    }
    let near = VipSpec {
        pool: Some(name("near")),
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    c.vip("near", near).unwrap();
    assert_eq!(c.holder("10.0.0.0"), None);
    let n2 = c.id("n2");
    c.apply(Command::NodeReport {
        node: n2,
        interfaces: subnets(true),
        membership: 0,
    })
    .unwrap();
    assert_eq!(
        c.holder("10.0.0.0"),
        Some(n2),
        "it is given a holder as soon as one can"
    );
}

#[test]
fn a_drained_holder_keeps_its_address_until_it_has_released_it() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c.vip(
        "a",
        VipSpec {
            families: Families::Ipv4,
            ..VipSpec::default()
        },
    )
    .unwrap();
    let n1 = c.holder("10.0.0.0").unwrap();
    let drained = c.state.node(n1).unwrap().name.clone();
    c.apply(Command::SetDrained {
        node: drained.clone(),
        drained: true,
    })
    .unwrap();
    assert_eq!(c.holder("10.0.0.0"), Some(n1), "not before it let go");
    c.release_all();
    assert_ne!(c.holder("10.0.0.0"), Some(n1));
    c.apply(Command::SetDrained {
        node: drained,
        drained: false,
    })
    .unwrap();
    c.release_all();
    assert_ne!(c.holder("10.0.0.0"), Some(n1), "coming back moves nothing");
}

#[test]
fn draining_the_only_node_that_can_hold_an_address_leaves_it_there_until_another_comes() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c.vip(
        "a",
        VipSpec {
            families: Families::Ipv4,
            ..VipSpec::default()
        },
    )
    .unwrap();
    c.down(NodeId(1)).unwrap();
    let n2 = c.id("n2");
    c.apply(Command::SetDrained {
        node: name("n2"),
        drained: true,
    })
    .unwrap();
    c.release_all();
    assert_eq!(c.holder("10.0.0.0"), Some(n2));
    c.up(NodeId(1));
    c.release_all();
    assert_eq!(c.holder("10.0.0.0"), Some(NodeId(1)));
}

#[test]
fn a_deleted_vip_s_address_is_not_given_away_while_its_holder_may_still_answer() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.1"]).unwrap();
    let one = VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    c.vip("a", one.clone()).unwrap();
    c.apply(Command::DeleteVip {
        name: name("a"),
        expect: Expect::Any,
    })
    .unwrap();
    assert_eq!(c.waits("b", one), "out_of_ips");
    c.release_all();
    assert_eq!(c.addresses("b"), ["10.0.0.1"]);
}

#[test]
fn a_release_that_was_overtaken_by_a_new_wish_gives_nothing_away() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.1"]).unwrap();
    let one = VipSpec {
        addresses: vec![ip("10.0.0.1")],
        ..VipSpec::default()
    };
    c.vip("a", one.clone()).unwrap();
    let (holder, old) = {
        let allocation = &c.state.allocations()[&ip("10.0.0.1")];
        (allocation.holder.unwrap(), allocation.epoch)
    };
    let delete = Command::DeleteVip {
        name: name("a"),
        expect: Expect::Any,
    };
    c.apply(delete).unwrap();
    c.vip("a", one).unwrap();
    let late = Command::Released {
        node: holder,
        addresses: vec![(ip("10.0.0.1"), old)],
    };
    c.apply(late).unwrap();
    let now = &c.state.allocations()[&ip("10.0.0.1")];
    assert_eq!(now.holder, Some(holder), "it has opened it again");
    assert!(now.epoch > old);
}

#[test]
fn a_withdrawal_of_an_older_lease_is_refused() {
    let mut c = Cluster::of(2);
    let old = c.state.node(NodeId(1)).unwrap().epoch;
    c.up(NodeId(1));
    assert_eq!(
        Cluster::refusal(c.apply(Command::NodeDown {
            node: NodeId(1),
            epoch: old,
            membership: 0
        })),
        "stale_lease"
    );
}

#[test]
fn a_renewed_lease_moves_nothing() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    assert_eq!(c.waits("a", dual()), "no_pool");
    c.vip(
        "a",
        VipSpec {
            families: Families::PreferDual,
            ..VipSpec::default()
        },
    )
    .unwrap();
    let (holder, epoch) = (
        c.holder("10.0.0.0").unwrap(),
        c.state.allocations()[&ip("10.0.0.0")].epoch,
    );
    c.up(holder);
    let after = &c.state.allocations()[&ip("10.0.0.0")];
    assert_eq!((after.holder, after.epoch), (Some(holder), epoch));
}

#[test]
fn every_bad_request_is_refused_with_its_reason() {
    let mut c = Cluster::of(1);
    c.pool("web", &["10.0.0.0/30", "fd00::1"]).unwrap();
    c.vip(
        "a",
        VipSpec {
            addresses: vec![ip("10.0.0.1")],
            ..VipSpec::default()
        },
    )
    .unwrap();
    let asks = |list: &[&str]| VipSpec {
        addresses: list.iter().map(|a| ip(a)).collect(),
        ..VipSpec::default()
    };
    assert_eq!(Cluster::refusal(c.pool("empty", &[])), "invalid");
    assert_eq!(
        Cluster::refusal(c.pool("web", &["10.0.0.2/31"])),
        "pool_in_use"
    );
    assert_eq!(
        Cluster::refusal(c.vip("b", asks(&["10.0.0.2", "10.0.0.2"]))),
        "invalid"
    );
    let delete = |vip: &str| Command::DeleteVip {
        name: name(vip),
        expect: Expect::Any,
    };
    assert_eq!(Cluster::refusal(c.apply(delete("nobody"))), "not_found");
    assert_eq!(
        Cluster::refusal(c.apply(Command::MoveVip {
            name: name("a"),
            to: name("n9")
        })),
        "not_found"
    );
}

#[test]
fn a_token_admits_as_often_and_as_long_as_it_says() {
    let mut c = Cluster::of(1);
    let token = [5; 32];
    c.apply(Command::PutJoinToken {
        token,
        role: Role::Agent,
        expires: Millis(100),
        uses: 1,
    })
    .unwrap();
    let join = |n: &str, port| Command::Join {
        token,
        name: name(n),
        peer: SocketAddr::from(([192, 0, 2, 77], port)),
        beat_key: [2; 32],
    };
    assert!(matches!(
        c.apply(join("n2", 1)),
        Ok(Applied::Joined {
            role: Role::Agent,
            ..
        })
    ));
    assert_eq!(Cluster::refusal(c.apply(join("n3", 2))), "token_used_up");
    let unknown = Command::Join {
        token: [6; 32],
        name: name("n3"),
        peer: "[::1]:1".parse().unwrap(),
        beat_key: [2; 32],
    };
    assert_eq!(Cluster::refusal(c.apply(unknown)), "token_unknown");
    while c.state.applied() < 11 {
        c.state.apply_blank(c.state.applied() + 1);
    }
    assert_eq!(Cluster::refusal(c.apply(join("n3", 2))), "token_expired");
}

#[test]
fn a_takeover_needs_every_voter_set_the_holder_may_still_count_by() {
    let mut c = Cluster::of(3);
    let set = |ids: &[u64]| -> std::collections::BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    };
    let ids: Vec<u64> = c.ids().iter().map(|id| id.0).collect();
    let at = c.state.applied() + 1;
    c.state.apply_membership(at, &[set(&ids)]);
    let stale = NodeId(1);
    c.up(stale); // counts by what it knew: nothing yet
    let joint = c.state.applied() + 1;
    c.state
        .apply_membership(joint, &[set(&ids), set(&[90, 91, 92])]);
    let last = joint + 1;
    c.state.apply_membership(last, &[set(&[90, 91, 92])]);
    let known: Vec<_> = c
        .state
        .voters_known_to(c.state.node(stale).unwrap())
        .map(|v| v.sets.len())
        .collect();
    assert_eq!(
        known,
        [1, 2, 1],
        "the sets before, during and after the change"
    );
    for id in c.ids() {
        c.apply(Command::NodeReport {
            node: id,
            interfaces: subnets(true),
            membership: last,
        })
        .unwrap();
    }
    let known: Vec<_> = c
        .state
        .voters_known_to(c.state.node(stale).unwrap())
        .map(|v| v.sets.clone())
        .collect();
    assert_eq!(
        known,
        [vec![set(&[90, 91, 92])]],
        "everybody has applied the change"
    );
}

#[test]
fn a_withdrawal_that_was_judged_by_other_voters_is_refused() {
    let mut c = Cluster::of(3);
    let at = c.state.applied() + 1;
    c.state
        .apply_membership(at, &[c.ids().into_iter().collect()]);
    let (node, epoch) = (NodeId(1), c.state.node(NodeId(1)).unwrap().epoch);
    let down = |membership| Command::NodeDown {
        node,
        epoch,
        membership,
    };
    let index = c.state.applied() + 1;
    let early = Proposal {
        at: Millis(1),
        command: down(0),
        by: None,
    };
    assert_eq!(
        c.state.apply(index, &early).unwrap_err().reason(),
        "voters_changed"
    );
    let judged = Proposal {
        at: Millis(1),
        command: down(at),
        by: None,
    };
    c.state.apply(index + 1, &judged).unwrap();
}

#[test]
fn a_host_s_own_address_is_never_given_to_a_vip() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.255.0/30", "192.0.2.0/29"]).unwrap();
    let asks = |address: &str| VipSpec {
        addresses: vec![ip(address)],
        ..VipSpec::default()
    };
    assert_eq!(c.waits("a", asks("10.0.255.1")), "host_address");
    assert_eq!(c.waits("a", asks("192.0.2.2")), "host_address");
    let next = VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    for vip in ["a", "b", "c", "d"] {
        c.vip(vip, next.clone()).unwrap();
    }
    let given: Vec<_> = ["a", "b", "c", "d"]
        .map(|vip| c.addresses(vip)[0].clone())
        .into();
    assert_eq!(
        given,
        ["10.0.255.0", "10.0.255.2", "10.0.255.3", "192.0.2.0"]
    );
}
