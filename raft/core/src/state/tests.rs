//! Random histories against the invariants, and the stories an operator would tell.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use std::format;

use proptest::prelude::*;

use super::State;
use crate::block::{Block, Family};
use crate::codec::Wire;
use crate::command::{Applied, Command, Expect, Outcome, Proposal};
use crate::id::NodeId;
use crate::name::{Labels, Name};
use crate::node::{Interface, Prefix, Role};
use crate::pool::PoolSpec;
use crate::time::Millis;
use crate::vip::{Families, VipSpec};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A state with a log: applies, checks the invariants, remembers.
#[derive(Default)]
struct Cluster {
    state: State,
    log: Vec<Proposal>,
}

impl Cluster {
    /// One bootstrapped node `n1` and `n - 1` joined ones, all up on 10.0.0.0/16 and fd00::/64.
    fn of(n: u64) -> Self {
        let mut cluster = Self::default();
        let peer = |i: u64| SocketAddr::from(([192, 0, 2, u8::try_from(i).unwrap()], 7400));
        cluster
            .apply(Command::Bootstrap {
                cluster: [7; 16],
                name: name("n1"),
                peer: peer(1),
                beat_key: [1; 32],
            })
            .unwrap();
        let token = [9; 32];
        cluster
            .apply(Command::PutJoinToken {
                token,
                role: Role::Voter,
                expires: Millis(1_000_000),
                uses: 100,
            })
            .unwrap();
        for i in 2..=n {
            let join = Command::Join {
                token,
                name: name(&format!("n{i}")),
                peer: peer(i),
                beat_key: [1; 32],
            };
            cluster.apply(join).unwrap();
        }
        for id in cluster.ids() {
            cluster.up(id);
        }
        cluster
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let index = self.state.applied() + 1;
        let proposal = Proposal {
            at: Millis(index * 10),
            command,
        };
        let before = self.state.clone();
        let outcome = self.state.apply(index, &proposal);
        if outcome.is_err() {
            let mut before = before;
            before.apply_blank(index);
            assert_eq!(
                before.to_bytes(),
                self.state.to_bytes(),
                "a refusal changes nothing: {proposal:?}"
            );
        }
        self.log.push(proposal);
        if let Err(broken) = self.state.check() {
            panic!("{broken} after {:?}", self.log.last());
        }
        outcome
    }

    fn ids(&self) -> Vec<NodeId> {
        self.state.nodes().keys().copied().collect()
    }

    fn id(&self, node: &str) -> NodeId {
        self.state.node_named(&name(node)).unwrap().id
    }

    fn up(&mut self, node: NodeId) {
        let interfaces = subnets(true);
        self.apply(Command::NodeUp {
            node,
            version: String::new(),
            interfaces,
            labels: Labels::new(),
        })
        .unwrap();
    }

    fn down(&mut self, node: NodeId) -> Outcome {
        let epoch = self.state.node(node).unwrap().epoch;
        self.apply(Command::NodeDown { node, epoch })
    }

    fn pool(&mut self, pool: &str, blocks: &[&str]) -> Outcome {
        let blocks = blocks
            .iter()
            .map(|block| Block::parse(block).unwrap())
            .collect();
        let spec = PoolSpec {
            blocks,
            ..PoolSpec::default()
        };
        self.apply(Command::PutPool {
            name: name(pool),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
        })
    }

    fn vip(&mut self, vip: &str, spec: VipSpec) -> Outcome {
        self.apply(Command::PutVip {
            name: name(vip),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
        })
    }

    fn holder(&self, address: &str) -> Option<NodeId> {
        self.state.allocations()[&ip(address)].holder
    }

    /// The holders of vacating addresses let go, as their daemons would.
    fn release_all(&mut self) {
        for id in self.ids() {
            let vacating: Vec<_> = self
                .state
                .held_by(id)
                .filter(|(_, a)| a.vacating.is_some())
                .map(|(ip, a)| (ip, a.epoch))
                .collect();
            if !vacating.is_empty() {
                self.apply(Command::Released {
                    node: id,
                    addresses: vacating,
                })
                .unwrap();
            }
        }
    }

    fn addresses(&self, vip: &str) -> Vec<String> {
        self.state.vips()[&name(vip)]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn refusal(outcome: Outcome) -> &'static str {
        outcome.unwrap_err().reason()
    }
}

fn subnets(up: bool) -> Vec<Interface> {
    let prefixes = vec![
        Prefix {
            address: ip("10.0.255.1"),
            len: 16,
        },
        Prefix {
            address: ip("fd00::ffff"),
            len: 64,
        },
    ];
    vec![Interface {
        name: "eth0".into(),
        up,
        prefixes,
    }]
}

fn dual() -> VipSpec {
    VipSpec {
        families: Families::RequireDual,
        ..VipSpec::default()
    }
}

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
    assert_eq!(Cluster::refusal(c.vip("b", one.clone())), "out_of_ips");
    c.release_all();
    c.vip("b", one).unwrap();
    assert_eq!(c.addresses("b"), ["10.0.0.1"]);
}

#[test]
fn a_withdrawal_of_an_older_lease_is_refused() {
    let mut c = Cluster::of(2);
    let old = c.state.node(NodeId(1)).unwrap().epoch;
    c.up(NodeId(1));
    assert_eq!(
        Cluster::refusal(c.apply(Command::NodeDown {
            node: NodeId(1),
            epoch: old
        })),
        "stale_lease"
    );
}

#[test]
fn a_renewed_lease_moves_nothing() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c.vip("a", dual()).unwrap_err();
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
        Cluster::refusal(c.pool("two", &["10.0.1.0/24", "10.0.1.7"])),
        "overlap"
    );
    assert_eq!(Cluster::refusal(c.pool("two", &["10.0.0.3"])), "overlap");
    assert_eq!(
        Cluster::refusal(c.pool("web", &["10.0.0.2/31"])),
        "pool_in_use"
    );
    assert_eq!(
        Cluster::refusal(c.vip("b", asks(&["10.9.9.9"]))),
        "not_in_any_pool"
    );
    assert_eq!(
        Cluster::refusal(c.vip("b", asks(&["10.0.0.2", "10.0.0.1"]))),
        "already_allocated"
    );
    assert_eq!(
        Cluster::refusal(c.vip("b", asks(&["10.0.0.2", "10.0.0.2"]))),
        "invalid"
    );
    let from = |pool: &str, families| VipSpec {
        pool: Some(name(pool)),
        families,
        ..VipSpec::default()
    };
    assert_eq!(
        Cluster::refusal(c.vip("b", from("none", Families::Ipv4))),
        "not_found"
    );
    c.vip("b", from("web", Families::Ipv6)).unwrap();
    assert_eq!(
        Cluster::refusal(c.vip("c", from("web", Families::Ipv6))),
        "out_of_ips"
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

/// A random command over few names, so that they collide.
fn command() -> impl Strategy<Value = Command> {
    let node = || (1u64..6).prop_map(NodeId);
    let node_name = || (1u64..6).prop_map(|i| name(&format!("n{i}")));
    let vip = || (0u8..6).prop_map(|i| name(&format!("v{i}")));
    let pool = || (0u8..3).prop_map(|i| name(&format!("p{i}")));
    let block = prop_oneof![
        (0u8..4, 28u8..=32)
            .prop_map(|(net, len)| Block::parse(&format!("10.0.{net}.0/{len}")).unwrap()),
        (0u8..4, 0u8..8)
            .prop_map(
                |(net, last)| Block::parse(&format!("fd00::{net}:0-fd00::{net}:{last}")).unwrap()
            ),
    ];
    let blocks = prop::collection::vec(block, 0..3);
    let families = prop_oneof![
        Just(Families::Ipv4),
        Just(Families::Ipv6),
        Just(Families::PreferDual),
        Just(Families::RequireDual)
    ];
    let address = prop_oneof![
        (0u8..4, 0u8..6).prop_map(|(net, host)| IpAddr::from([10, 0, net, host])),
        (0u16..4, 0u16..6).prop_map(|(net, host)| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, net, host])),
    ];
    let addresses = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(address, 1..3)];
    prop_oneof![
        2 => (pool(), blocks, any::<bool>(), any::<bool>()).prop_map(|(name, blocks, allow_first_last, disabled)| {
            let spec = PoolSpec { blocks, allow_first_last, disabled, ..PoolSpec::default() };
            Command::PutPool { name, labels: Labels::new(), spec, expect: Expect::Any }
        }),
        1 => pool().prop_map(|name| Command::DeletePool { name, expect: Expect::Any }),
        6 => (vip(), prop::option::of(pool()), families, addresses).prop_map(|(name, pool, families, addresses)| {
            let spec = VipSpec { pool, families, addresses, ..VipSpec::default() };
            Command::PutVip { name, labels: Labels::new(), spec, expect: Expect::Any }
        }),
        2 => vip().prop_map(|name| Command::DeleteVip { name, expect: Expect::Any }),
        1 => (vip(), node_name()).prop_map(|(name, to)| Command::MoveVip { name, to }),
        2 => (node(), any::<bool>()).prop_map(|(node, up)| Command::NodeReport {
            node, interfaces: subnets(up), membership: 0
        }),
        1 => (node_name(), any::<bool>()).prop_map(|(node, drained)| Command::SetDrained { node, drained }),
        1 => node_name().prop_map(|node| Command::RemoveNode { node }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Do(Command),
    Up(u64),
    Down(u64),
    Retire(u64),
    ReleaseAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => command().prop_map(Step::Do),
        1 => (1u64..6).prop_map(Step::Up),
        1 => (1u64..6).prop_map(Step::Down),
        1 => (1u64..6).prop_map(Step::Retire),
        3 => Just(Step::ReleaseAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_asked_the_invariants_hold_and_a_replay_gives_the_same_bytes(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut c = Cluster::of(3);
        for step in steps {
            match step {
                Step::Do(command) => { let _refused = c.apply(command); }
                Step::Up(n) if c.state.node(NodeId(n)).is_some() => c.up(NodeId(n)),
                Step::Down(n) if c.state.node(NodeId(n)).is_some() => { let _stale = c.down(NodeId(n)); }
                Step::Retire(n) => if let Some(epoch) = c.state.node(NodeId(n)).map(|node| node.epoch) {
                    c.apply(Command::NodeRetire { node: NodeId(n), epoch }).unwrap();
                },
                Step::Up(_) | Step::Down(_) => {}
                Step::ReleaseAll => c.release_all(),
            }
        }
        let bytes = c.state.to_bytes();
        let mut replayed = State::default();
        for (i, proposal) in c.log.iter().enumerate() {
            let copy = Proposal::from_bytes(&proposal.to_bytes()).unwrap();
            let _outcome = replayed.apply(i as u64 + 1, &copy);
        }
        prop_assert_eq!(replayed.to_bytes(), bytes.clone());
        let decoded = State::from_bytes(&bytes).unwrap();
        prop_assert!(decoded.check().is_ok());
        prop_assert_eq!(decoded.to_bytes(), bytes);
        for pool in c.state.pools().values() {
            for family in Family::ALL {
                let usage = c.state.usage(pool, family);
                let counted = c.state.allocations().iter()
                    .filter(|(a, of)| of.pool == pool.name && Family::of(**a) == family).count() as u128;
                prop_assert_eq!(usage.used, counted);
            }
        }
    }
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
