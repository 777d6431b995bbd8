use std::net::SocketAddr;

use vipd_core::block::Block;
use vipd_core::command::{Command, Expect, Proposal};
use vipd_core::name::{Labels, Name};
use vipd_core::pool::PoolSpec;
use vipd_core::time::Millis;
use vipd_core::token::TokenHash;
use vipd_core::vip::VipSpec;

use super::*;

const TOKEN: TokenHash = [3; 32];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn apply(state: &mut State, command: Command) {
    let at = Millis(1);
    state
        .apply(state.applied() + 1, &Proposal { at, command })
        .unwrap();
}

/// Two nodes on 10.0.0.0/24 and one VIP, 10.0.0.50; and who holds it, and who does not.
fn two_nodes() -> (State, NodeId, NodeId) {
    let mut state = State::default();
    let peer = |i: u8| SocketAddr::from(([192, 0, 2, i], 7400));
    apply(
        &mut state,
        Command::Bootstrap {
            cluster: [1; 16],
            name: name("n1"),
            peer: peer(1),
            beat_key: [1; 32],
        },
    );
    let role = vipd_core::node::Role::Voter;
    apply(
        &mut state,
        Command::PutJoinToken {
            token: TOKEN,
            role,
            expires: Millis(9),
            uses: 1,
        },
    );
    apply(
        &mut state,
        Command::Join {
            token: TOKEN,
            name: name("n2"),
            peer: peer(2),
            beat_key: [2; 32],
        },
    );
    let ids: Vec<NodeId> = state.nodes().keys().copied().collect();
    for node in &ids {
        let prefixes = vec![Prefix {
            address: "10.0.0.1".parse().unwrap(),
            len: 24,
        }];
        let interfaces = vec![Interface {
            name: "eth0".into(),
            up: true,
            prefixes,
        }];
        apply(
            &mut state,
            Command::NodeUp {
                node: *node,
                version: String::new(),
                interfaces,
                labels: Labels::new(),
            },
        );
    }
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.0.50").unwrap()],
        ..PoolSpec::default()
    };
    apply(
        &mut state,
        Command::PutPool {
            name: name("p"),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
        },
    );
    let spec = VipSpec::default();
    apply(
        &mut state,
        Command::PutVip {
            name: name("v"),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
        },
    );
    let holder = state.allocations().values().next().unwrap().holder.unwrap();
    let other = *ids.iter().find(|id| **id != holder).unwrap();
    (state, holder, other)
}

fn gate(state: &State, me: NodeId, supported: bool) -> Gate {
    let interfaces = BTreeSet::from(["eth0".to_owned()]);
    let wanted = wanted(state, me, supported, &interfaces);
    assert_eq!(wanted.interfaces, interfaces);
    wanted.addresses[&"10.0.0.50".parse::<IpAddr>().unwrap()].gate
}

#[test]
fn an_address_is_open_on_its_holder_alone_and_only_while_that_is_supported() {
    let (state, holder, other) = two_nodes();
    assert_eq!(gate(&state, holder, true), Gate::Open);
    assert_eq!(gate(&state, holder, false), Gate::Shut);
    assert_eq!(
        gate(&state, other, true),
        Gate::Shut,
        "an entry, so that nothing there speaks as it"
    );
}

#[test]
fn a_drained_holder_shuts_the_address_and_is_told_to_give_it_back() {
    let (mut state, holder, _) = two_nodes();
    let node = state.node(holder).unwrap().name.clone();
    assert!(vacating(&state, holder).is_empty());
    apply(
        &mut state,
        Command::SetDrained {
            node,
            drained: true,
        },
    );
    assert_eq!(gate(&state, holder, true), Gate::Shut);
    assert_eq!(vacating(&state, holder).len(), 1);
}

#[test]
fn a_node_that_has_not_caught_up_with_its_log_beats_without_a_lease() {
    let (state, holder, _) = two_nodes();
    assert_eq!(view(&state, holder, false, &mut Heard::new()).epoch, None);
    assert!(
        view(&state, holder, true, &mut Heard::new())
            .epoch
            .is_some()
    );
}

#[test]
fn interfaces_are_reported_in_order_without_link_local_subnets_and_only_those_that_announce() {
    let found = |name: &str, prefixes: &[(&str, u8)]| vipd_datapath::Interface {
        name: name.into(),
        index: 1,
        mac: [0; 6],
        up: true,
        prefixes: prefixes
            .iter()
            .map(|(address, len)| (address.parse().unwrap(), *len))
            .collect(),
    };
    let host = [
        found(
            "eth1",
            &[("fe80::1", 64), ("fd00::1", 64), ("10.0.0.1", 24)],
        ),
        found("docker0", &[("172.17.0.1", 16)]),
        found("eth0", &[("169.254.0.1", 16)]),
    ];
    let reported = reported(&host, |name| name.starts_with("eth"));
    let names: Vec<_> = reported
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    assert_eq!(names, ["eth0", "eth1"]);
    assert!(reported[0].prefixes.is_empty());
    let subnets: Vec<_> = reported[1]
        .prefixes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(subnets, ["10.0.0.1/24", "fd00::1/64"]);
}
