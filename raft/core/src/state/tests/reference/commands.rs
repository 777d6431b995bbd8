//! Random writes: few names and few addresses, so that they meet.

use proptest::prelude::*;

use super::super::services::{asked, serving};
use super::super::*;
use crate::pool::Care;
use crate::selector::{NAMESPACE_LABEL, Selector};
use crate::service::{Port, Protocol};

pub(super) fn command() -> impl Strategy<Value = Command> {
    let vip = || (0u8..12).prop_map(|i| name(&format!("v{i}")));
    let pool = || (0u8..4).prop_map(|i| name(&format!("p{i}")));
    let block = prop_oneof![
        3 => (0u8..6, 30u8..=32).prop_map(|(net, len)| Block::parse(&format!("10.0.0.{}/{len}", net * 4)).unwrap()),
        1 => (0u8..4, 126u8..=128).prop_map(|(net, len)| Block::parse(&format!("fd00::{net}0/{len}")).unwrap()),
        1 => (0u8..20, 0u8..4).prop_map(|(from, n)| Block::parse(&format!("10.0.0.{from}-10.0.0.{}", from + n)).unwrap()),
        2 => (0u8..4, 0u8..4).prop_map(|(net, n)| Block::parse(&format!("fd00::{net}0-fd00::{net}{n}")).unwrap()),
    ];
    let label = || prop_oneof![Just("a"), Just("b")].prop_map(str::to_string);
    let selector = prop_oneof![
        4 => Just(None),
        1 => (prop_oneof![Just("app"), Just(NAMESPACE_LABEL)], label()).prop_map(|(key, value)| Some(Selector {
            match_labels: [(key.to_string(), value)].into(),
            ..Selector::default()
        })),
    ];
    let cooling = prop_oneof![2 => Just((0, false)), 1 => Just((60, false)), 1 => Just((60, true))];
    let spec = (
        prop::collection::vec(block, 1..4),
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.8),
        0i32..2,
        selector,
        cooling,
    );
    let spec = spec.prop_map(
        |(
            blocks,
            allow_first_last,
            disabled,
            auto_assign,
            priority,
            selector,
            (cooldown, reclaim),
        )| {
            PoolSpec {
                blocks,
                allow_first_last,
                disabled,
                auto_assign,
                priority,
                selector,
                cooldown: Millis(cooldown),
                reclaim,
            }
        },
    );
    let care = (prop::bool::weighted(0.2), prop::bool::weighted(0.3))
        .prop_map(|(strict, force)| Care { strict, force });
    let address = prop_oneof![
        (0u8..26).prop_map(|n| IpAddr::from([10, 0, 0, n])),
        (0u16..4, 0u16..5).prop_map(|(net, n)| IpAddr::from([
            0xfd00,
            0,
            0,
            0,
            0,
            0,
            0,
            net * 16 + n
        ])),
    ];
    let backend = address.clone();
    let addresses = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::btree_set(address, 1..4).prop_map(|set| set.into_iter().collect()),
    ];
    let families = prop_oneof![
        3 => Just(Families::Ipv4),
        1 => Just(Families::Ipv6),
        1 => Just(Families::PreferDual),
        1 => Just(Families::RequireDual),
    ];
    let sharing = (
        prop::option::weighted(
            0.5,
            prop_oneof![Just("k"), Just("l")].prop_map(str::to_string),
        ),
        serving(1..5, backend),
        prop::option::weighted(0.3, label()),
        prop_oneof![3 => Just(vec![]), 3 => Just(vec!["*"]), 1 => Just(vec!["a"]), 1 => Just(vec!["a", "b"]), 1 => Just(vec!["default"])],
    );
    let apart = (
        prop::option::weighted(0.1, label()),
        prop::option::weighted(0.1, Just("eth0".to_string())),
        prop::bool::weighted(0.3),
    );
    let ask = (
        prop::option::weighted(0.2, pool()),
        addresses,
        families,
        sharing,
        apart,
    );
    let ask = ask.prop_map(
        |(pool, addresses, families, sharing, (group, interface, udp))| {
            let (sharing_key, serving, namespace, lets_in) = sharing;
            let spec = VipSpec {
                pool,
                addresses,
                families,
                sharing_key,
                namespace: namespace.map(|text| name(&text)),
                sharing_namespaces: lets_in.into_iter().map(str::to_string).collect(),
                group: group.map(|text| name(&text)),
                interface,
                ..VipSpec::default()
            };
            let mut spec = asked(spec, serving);
            if udp {
                // Every other port is one of UDP.
                let ports = core::mem::take(&mut spec.ports).into_iter();
                let ports = ports.enumerate().map(|(i, (port, more))| {
                    let protocol = Protocol::ALL[i % 2];
                    (Port { protocol, ..port }, more)
                });
                spec.ports = ports.collect();
            }
            spec
        },
    );
    let labels = prop::option::of(label()).prop_map(|app| {
        app.map(|app| ("app".to_string(), app))
            .into_iter()
            .collect()
    });
    prop_oneof![
        3 => (pool(), spec, care).prop_map(|(name, spec, care)| Command::PutPool {
            name, labels: Labels::new(), spec, expect: Expect::Any, care
        }),
        1 => (pool(), prop::bool::weighted(0.3)).prop_map(|(name, force)| Command::DeletePool { name, expect: Expect::Any, force }),
        8 => (vip(), labels, ask).prop_map(|(name, labels, spec)| Command::PutVip { name, labels, spec, expect: Expect::Any }),
        3 => vip().prop_map(|name| Command::DeleteVip { name, expect: Expect::Any }),
        1 => Just(Command::Ripen),
    ]
}
