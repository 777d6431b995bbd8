//! Random histories against the invariants.

use alloc::boxed::Box;
use proptest::prelude::*;

use super::services::{asked, serving};
use super::*;
use crate::policy::{Pattern, PolicySpec};
use crate::pool::Care;
use crate::proof::Rule;
use crate::selector::Selector;

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
    let key = |text: &'static str| {
        prop::option::weighted(0.3, (0u8..2).prop_map(move |i| name(&format!("{text}{i}"))))
    };
    let failback = prop_oneof![
        2 => Just(Failback::Never),
        1 => (0u64..500).prop_map(|ms| Failback::After { delay: Millis(ms) }),
    ];
    let belongs = (key("g"), key("k"), failback);
    let selector = |with: &'static str| {
        prop::option::of(Just(with)).prop_map(|with| {
            let match_labels = with
                .map(|with| ("rack".into(), with.into()))
                .into_iter()
                .collect();
            Selector {
                match_labels,
                ..Selector::default()
            }
        })
    };
    let pattern = prop_oneof![
        Just(Vec::new()),
        Just(vec![Pattern::new("^eth0$").unwrap()]),
        Just(vec![Pattern::new("^wan").unwrap()])
    ];
    let policy =
        (selector("a"), selector("b"), pattern).prop_map(|(vips, nodes, interfaces)| PolicySpec {
            vips,
            nodes,
            interfaces,
        });
    let weight = prop::option::of((0u8..=100).prop_map(|w| Weight::new(w).unwrap()));
    let labels = prop::option::of(prop::option::of("[ab]")).prop_map(|rack| {
        rack.map(|rack| ("rack".to_string(), rack))
            .into_iter()
            .collect()
    });
    let care = (any::<bool>(), any::<bool>()).prop_map(|(strict, force)| Care { strict, force });
    let cooldown = (
        prop_oneof![Just(Millis(0)), Just(Millis(60))],
        any::<bool>(),
    );
    let backend = (0u8..4, 0u8..6).prop_map(|(net, host)| IpAddr::from([10, 0, net, host]));
    let sharing = (
        prop::option::weighted(0.4, Just("s".to_string())),
        serving(1..4, backend),
        prop::bool::weighted(0.5),
    );
    prop_oneof![
        1 => ((0u8..2).prop_map(|i| name(&format!("y{i}"))), policy).prop_map(|(name, spec)| {
            Command::PutPolicy { name, labels: Labels::new(), spec, expect: Expect::Any }
        }),
        1 => (0u8..2).prop_map(|i| Command::DeletePolicy { name: name(&format!("y{i}")), expect: Expect::Any }),
        2 => (node_name(), weight, labels, prop::option::of(any::<bool>())).prop_map(|(node, weight, labels, drained)| {
            Command::SetNode { node, weight, labels, drained, expect: Expect::Any }
        }),
        1 => Just(Command::Rebalance),
        1 => Just(Command::FailBack),
        2 => (pool(), blocks, any::<bool>(), any::<bool>(), care, cooldown).prop_map(|(name, blocks, allow_first_last, disabled, care, (cooldown, reclaim))| {
            let spec = PoolSpec { blocks, allow_first_last, disabled, cooldown, reclaim, ..PoolSpec::default() };
            Command::PutPool { name, labels: Labels::new(), spec, expect: Expect::Any, care }
        }),
        1 => (pool(), any::<bool>()).prop_map(|(name, force)| Command::DeletePool { name, expect: Expect::Any, force }),
        1 => Just(Command::Ripen),
        6 => (vip(), prop::option::of(pool()), families, addresses, belongs, sharing).prop_map(|(name, pool, families, addresses, (group, apart, failback), (sharing_key, serving, leaves))| {
            let mut spec = asked(VipSpec { pool, families, addresses, group, apart, failback, sharing_key, ..VipSpec::default() }, serving);
            if leaves {
                spec.health = Some(super::sight::leaves_when_all_are_down());
            }
            Command::PutVip { name, labels: Labels::new(), spec, expect: Expect::Any }
        }),
        3 => (node(), vip(), any::<bool>()).prop_map(|(node, vip, down)| Command::Sight { node, vip, down }),
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
pub(super) enum Step {
    Do(Box<Command>),
    Up(u64),
    Down(u64),
    Retire(u64),
    ReleaseAll,
    /// The nth asks the link; somebody outside has every address that ends so, if anybody.
    Ask(u64, Option<u8>, Rule),
}

impl Step {
    pub(super) fn take(self, c: &mut Cluster) {
        match self {
            Self::Do(command) => {
                let _refused = c.apply(*command);
            }
            Self::Up(n) if c.state.node(NodeId(n)).is_some() => c.up(NodeId(n)),
            Self::Down(n) if c.state.node(NodeId(n)).is_some() => {
                let _stale = c.down(NodeId(n));
            }
            Self::Retire(n) => {
                if let Some(epoch) = c.state.node(NodeId(n)).map(|node| node.epoch) {
                    let node = NodeId(n);
                    c.apply(Command::NodeRetire { node, epoch }).unwrap();
                }
            }
            Self::Up(_) | Self::Down(_) => {}
            Self::ReleaseAll => c.release_all(),
            Self::Ask(n, taken, rule) => {
                let of = |address: &IpAddr| match address {
                    IpAddr::V4(v4) => v4.octets()[3],
                    IpAddr::V6(v6) => v6.octets()[15],
                };
                let taken = |address: &IpAddr| taken == Some(of(address) % 4);
                let _no_member = c.asks(NodeId(n), rule, taken);
            }
        }
    }
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => command().prop_map(|command| Step::Do(Box::new(command))),
        1 => (1u64..6).prop_map(Step::Up),
        1 => (1u64..6).prop_map(Step::Down),
        1 => (1u64..6).prop_map(Step::Retire),
        3 => Just(Step::ReleaseAll),
        2 => (1u64..6, prop::option::of(0u8..4), prop_oneof![Just(Rule::Refuse), Just(Rule::Warn)])
            .prop_map(|(n, taken, rule)| Step::Ask(n, taken, rule)),
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
            step.take(&mut c);
        }
        let bytes = c.state.to_bytes();
        let mut replayed = State::default();
        for (i, proposal) in c.log.iter().enumerate() {
            let copy = Proposal::from_bytes(&proposal.to_bytes()).unwrap();
            let _outcome = replayed.apply(i as u64 + 1, &copy);
        }
        prop_assert_eq!(replayed.to_bytes(), bytes.clone());
        // Once everybody has let go, nothing is left to do, and what is said of losses is what happens.
        for _ in 0..8 {
            c.release_all();
        }
        prop_assert!(c.state.allocations().values().all(|of| of.vacating.is_none() || of.freeing || of.holder.is_none()), "still under way");
        for node in c.ids() {
            let said = c.state.loss(node);
            let mut after = c.state.clone();
            let (index, epoch) = (after.applied() + 1, after.node(node).unwrap().epoch);
            let membership = after.voters().map_or(0, |(index, _)| index);
            let down = Proposal { at: Millis(0), command: Command::NodeDown { node, epoch, membership }, by: None };
            if after.apply(index, &down).is_ok() {
                for (address, to) in said {
                    prop_assert_eq!(after.allocations()[&address].holder, to, "{} of {}", address, node);
                }
            }
        }
        let bytes = c.state.to_bytes();
        let decoded = State::from_bytes(&bytes).unwrap();
        prop_assert!(decoded.check().is_ok());
        prop_assert_eq!(decoded.to_bytes(), bytes);
        for pool in c.state.pools().values() {
            for family in Family::ALL {
                let usage = c.state.usage(pool, family);
                let counted = c.state.allocations().iter()
                    .filter(|(a, of)| of.pool == pool.name && Family::of(*a) == family).count() as u128;
                prop_assert_eq!(usage.used, counted);
            }
        }
    }
}
