//! The order of writes, where it does not matter (docs/addresses.md): whatever comes first of pools, policies, nodes and VIPs, in
//! the end every VIP has the same, and is answered for where it may be.

use alloc::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::policy::PolicySpec;
use crate::pool::Care;
use crate::selector::Selector;
use crate::service::{Port, PortSpec, Protocol};

/// Pools, each of which serves the VIPs of an `app` of its own; and nodes, each in a `rack` of its own.
const POOLS: u8 = 3;
const NODES: u8 = 3;
const POLICIES: u8 = 2;
const VIPS: u8 = 9;
/// More looks than an address that has to leave a node may need until it has arrived elsewhere.
const LOOKS: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Write {
    Pool(u8),
    Policy(u8),
    Node(u8),
    Vip(u8),
}

/// Every write once.
fn writes() -> Vec<Write> {
    let pools = (0..POOLS).map(Write::Pool);
    let (policies, nodes) = (
        (0..POLICIES).map(Write::Policy),
        (0..NODES).map(Write::Node),
    );
    let vips = (0..VIPS).map(Write::Vip);
    pools.chain(policies).chain(nodes).chain(vips).collect()
}

/// The same order, but for VIPs, which come by their numbers.
fn oldest_first(order: Vec<Write>) -> Vec<Write> {
    let mut vips = 0..VIPS;
    let ordered = order.into_iter().map(|write| match write {
        Write::Vip(_) => Write::Vip(vips.next().unwrap()),
        Write::Pool(_) | Write::Policy(_) | Write::Node(_) => write,
    });
    ordered.collect()
}

/// What is written.
#[derive(Clone, Debug)]
struct Site {
    pools: Vec<PoolSpec>,
    /// Each keeps an `app` in a `rack`; of these one may have no node.
    policies: Vec<(u8, u8)>,
    /// The `app` of each, and what it asks for.
    vips: Vec<(u8, VipSpec)>,
}

fn label(key: &str, value: u8) -> Labels {
    [(key.to_string(), value.to_string())].into()
}

fn only(key: &str, value: u8) -> Selector {
    Selector {
        match_labels: label(key, value),
        ..Selector::default()
    }
}

impl Site {
    fn after(&self, order: &[Write]) -> Cluster {
        let mut cluster = Cluster::joined(u64::from(NODES));
        for write in order {
            cluster.apply(self.command(*write, &cluster)).unwrap();
            cluster.release_all();
        }
        for _ in 0..LOOKS {
            cluster.release_all();
        }
        cluster
    }

    fn command(&self, write: Write, cluster: &Cluster) -> Command {
        match write {
            Write::Pool(i) => Command::PutPool {
                name: name(&format!("p{i}")),
                labels: Labels::new(),
                spec: self.pools[usize::from(i)].clone(),
                expect: Expect::Any,
                care: Care::default(),
            },
            Write::Policy(i) => {
                let (app, rack) = self.policies[usize::from(i)];
                Command::PutPolicy {
                    name: name(&format!("policy{i}")),
                    labels: Labels::new(),
                    spec: PolicySpec {
                        vips: only("app", app),
                        nodes: only("rack", rack),
                        interfaces: Vec::new(),
                    },
                    expect: Expect::Any,
                }
            }
            Write::Node(i) => Command::NodeUp {
                node: cluster.ids()[usize::from(i)],
                version: String::new(),
                interfaces: subnets(true),
                labels: label("rack", i),
            },
            Write::Vip(i) => {
                let (app, spec) = &self.vips[usize::from(i)];
                Command::PutVip {
                    name: name(&format!("v{i}")),
                    labels: label("app", *app),
                    spec: spec.clone(),
                    expect: Expect::Any,
                }
            }
        }
    }

    /// Every address is answered for by a node that may do so, and by nobody only if there is none. (One that no node may hold any
    /// more stays with its holder, which is silent.)
    fn is_answered_for_where_it_may_be(&self, cluster: &Cluster) -> Result<(), TestCaseError> {
        for (address, of) in cluster.state.allocations().iter() {
            let vip: usize = of.vip.as_str()[1..].parse().unwrap();
            let app = self.vips[vip].0;
            let policies = self.policies.iter().filter(|it| it.0 == app);
            let racks: Vec<u8> = policies.map(|it| it.1).collect();
            let racks = (0..NODES).filter(|rack| racks.is_empty() || racks.contains(rack));
            let may: Vec<_> = racks.map(|rack| cluster.ids()[usize::from(rack)]).collect();
            let speaks = of.holder.filter(|holder| {
                let node = cluster.state.node(*holder).unwrap();
                cluster.state.interface_for(node, address).is_some()
            });
            let right = speaks.map_or(may.is_empty(), |node| may.contains(&node));
            prop_assert!(right, "{address} of app {app}: {of:?}, not one of {may:?}");
        }
        Ok(())
    }
}

/// What each VIP has, and what it is told.
fn answers(cluster: &Cluster) -> BTreeMap<Name, (Vec<IpAddr>, Vec<&'static str>)> {
    let answers = cluster.state.vips().values().map(|vip| {
        let told = vip.unmet.iter().map(|unmet| unmet.why.reason()).collect();
        let strict = vip.spec.families == Families::RequireDual;
        // Who wants both or nothing may be told of one that is in his way, or of both, see `reference`.
        let told: Vec<_> = if strict && !vip.unmet.is_empty() {
            vec!["waits"]
        } else {
            told
        };
        (vip.name.clone(), (vip.addresses.to_vec(), told))
    });
    answers.collect()
}

fn counts(cluster: &Cluster) -> Vec<super::super::Usage> {
    let pools = cluster.state.pools().values();
    let counts = pools.flat_map(|pool| Family::ALL.map(|family| cluster.state.usage(pool, family)));
    counts.collect()
}

fn pools(auto_assign: bool) -> impl Strategy<Value = Vec<PoolSpec>> {
    let pool = (1u8..5, 0u8..4, any::<bool>(), prop::bool::weighted(0.15));
    prop::collection::vec(pool, usize::from(POOLS)).prop_map(move |pools| {
        let specs = pools.into_iter().enumerate();
        let specs = specs.map(|(i, (four, six, allow_first_last, disabled))| {
            let mut blocks = vec![
                format!("10.0.{i}.0-10.0.{i}.{}", four - 1),
                format!("10.0.{i}.64/30"),
            ];
            if six > 0 {
                blocks.push(format!("fd00::{i}:0-fd00::{i}:{}", six - 1));
            }
            let app = u8::try_from(i).unwrap();
            PoolSpec {
                blocks: blocks.iter().map(|it| Block::parse(it).unwrap()).collect(),
                allow_first_last,
                disabled,
                auto_assign,
                selector: Some(only("app", app)),
                ..PoolSpec::default()
            }
        });
        specs.collect()
    })
}

fn policies() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..POOLS, 0..=NODES), usize::from(POLICIES))
}

/// VIPs that ask for whatever they like of the pool that serves them, and may share.
fn any_vips() -> impl Strategy<Value = Vec<(u8, VipSpec)>> {
    let families = prop_oneof![
        3 => Just(Families::Ipv4),
        1 => Just(Families::Ipv6),
        1 => Just(Families::PreferDual),
        1 => Just(Families::RequireDual),
    ];
    let named = prop_oneof![
        3 => Just(BTreeSet::new()),
        1 => prop::collection::btree_set(prop_oneof![0u8..5, 64u8..68], 1..3),
    ];
    let vip = (0..POOLS, families, named, any::<bool>(), 1u16..4);
    let vip = vip.prop_map(|(app, families, named, shares, port)| {
        let port = Port {
            protocol: Protocol::Tcp,
            port,
        };
        let spec = VipSpec {
            families,
            addresses: named
                .into_iter()
                .map(|n| IpAddr::from([10, 0, app, n]))
                .collect(),
            sharing_key: shares.then(|| "k".to_string()),
            ports: [(port, PortSpec::default())].into(),
            ..VipSpec::default()
        };
        (app, spec)
    });
    prop::collection::vec(vip, usize::from(VIPS))
}

/// VIPs that want one address each, whichever it is.
fn modest_vips() -> impl Strategy<Value = Vec<(u8, VipSpec)>> {
    let families = prop_oneof![2 => Just(Families::Ipv4), 1 => Just(Families::Ipv6)];
    let vip = (0..POOLS, families).prop_map(|(app, families)| {
        let spec = VipSpec {
            families,
            ..VipSpec::default()
        };
        (app, spec)
    });
    prop::collection::vec(vip, usize::from(VIPS))
}

/// VIPs that name their addresses, no two the same one.
fn naming_vips() -> impl Strategy<Value = Vec<(u8, VipSpec)>> {
    let apps = prop::collection::vec(0..POOLS, usize::from(VIPS));
    let all = (0..4u8).chain(64..68).chain(200..204).collect::<Vec<u8>>();
    (apps, Just(all).prop_shuffle()).prop_map(|(apps, all)| {
        let vips = apps.into_iter().zip(all).map(|(app, n)| {
            let spec = VipSpec {
                addresses: vec![IpAddr::from([10, 0, app, n])],
                ..VipSpec::default()
            };
            (app, spec)
        });
        vips.collect()
    })
}

proptest! {
    #[test]
    fn pools_policies_nodes_and_vips_in_any_order_but_that_of_the_vips_ages_give_the_same_answers(
        (pools, policies, vips) in (pools(true), policies(), any_vips()),
        order in Just(writes()).prop_shuffle().prop_map(oldest_first),
    ) {
        let site = Site { pools, policies, vips };
        let (one, other) = (site.after(&writes()), site.after(&order));
        prop_assert_eq!(answers(&one), answers(&other), "{:?}", order);
        prop_assert_eq!(counts(&one), counts(&other), "{:?}", order);
        site.is_answered_for_where_it_may_be(&one)?;
        site.is_answered_for_where_it_may_be(&other)?;
    }

    #[test]
    fn vips_that_name_addresses_of_their_own_have_them_in_whatever_order_all_is_written(
        (pools, policies, vips) in (pools(false), policies(), naming_vips()),
        order in Just(writes()).prop_shuffle(),
    ) {
        let site = Site { pools, policies, vips };
        let (one, other) = (site.after(&writes()), site.after(&order));
        prop_assert_eq!(answers(&one), answers(&other), "{:?}", order);
        prop_assert_eq!(counts(&one), counts(&other), "{:?}", order);
        site.is_answered_for_where_it_may_be(&other)?;
    }

    #[test]
    fn of_vips_that_take_what_they_are_given_as_many_are_served_in_whatever_order_all_is_written(
        (pools, policies, vips) in (pools(true), policies(), modest_vips()),
        order in Just(writes()).prop_shuffle(),
    ) {
        let site = Site { pools, policies, vips };
        let (one, other) = (site.after(&writes()), site.after(&order));
        prop_assert_eq!(counts(&one), counts(&other), "{:?}", order);
        let given = |cluster: &Cluster| cluster.state.allocations().iter().map(|(it, _)| it).collect::<Vec<_>>();
        prop_assert_eq!(given(&one), given(&other), "{:?}", order);
        let told = |cluster: &Cluster| {
            let mut told: Vec<_> = answers(cluster).into_values().map(|(_, told)| told).collect();
            told.sort();
            told
        };
        prop_assert_eq!(told(&one), told(&other), "{:?}", order);
        site.is_answered_for_where_it_may_be(&other)?;
    }
}

/// Where the order does matter: what a VIP has it keeps.
#[test]
fn a_vip_that_is_older_than_a_better_pool_keeps_what_it_has() {
    let better = |c: &mut Cluster| {
        let spec = PoolSpec {
            blocks: vec![Block::parse("10.0.1.0/30").unwrap()],
            priority: -1,
            ..PoolSpec::default()
        };
        let put = Command::PutPool {
            name: name("better"),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
            care: Care::default(),
        };
        c.apply(put).unwrap();
    };
    let (mut before, mut after) = (Cluster::of(1), Cluster::of(1));
    for cluster in [&mut before, &mut after] {
        cluster.pool("web", &["10.0.0.0/30"]).unwrap();
    }
    better(&mut before);
    before.vip("a", v4()).unwrap();
    after.vip("a", v4()).unwrap();
    better(&mut after);
    assert_eq!(before.addresses("a"), ["10.0.1.0"]);
    assert_eq!(after.addresses("a"), ["10.0.0.0"]);
}
