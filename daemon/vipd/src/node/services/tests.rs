use super::*;

use proptest::prelude::*;
use vipd_core::block::Block;
use vipd_core::command::{Command, Expect, Proposal};
use vipd_core::name::Labels;
use vipd_core::node::{Interface, Prefix};
use vipd_core::pool::{Care, PoolSpec};
use vipd_core::service::{Backends, Ports};
use vipd_core::time::Millis;
use vipd_core::vip::Families;

const ME: NodeId = NodeId(1);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A state with a pool of both families.
fn state() -> State {
    let mut state = State::default();
    let blocks = ["10.0.0.0/28", "fd00::/124"];
    let spec = PoolSpec {
        blocks: blocks.map(|text| Block::parse(text).unwrap()).into(),
        ..PoolSpec::default()
    };
    let put = Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: Care::default(),
    };
    apply(&mut state, put);
    state
}

fn apply(state: &mut State, command: Command) {
    let index = state.applied() + 1;
    let proposal = Proposal {
        at: Millis(index),
        command,
        by: None,
    };
    state.apply(index, &proposal).unwrap();
}

fn put(state: &mut State, vip: &str, spec: VipSpec) {
    let command = Command::PutVip {
        name: name(vip),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
    };
    apply(state, command);
}

fn delete(state: &mut State, vip: &str) {
    let command = Command::DeleteVip {
        name: name(vip),
        expect: Expect::Any,
    };
    apply(state, command);
}

/// `(port, target)`s of TCP, and `(address, port, weight)`s.
fn nat(ports: &[(u16, u16)], backends: &[(&str, u16, u16)]) -> VipSpec {
    let protocol = Protocol::Tcp;
    let ports: Ports = ports
        .iter()
        .map(|(port, target)| {
            let (port, target) = (*port, *target);
            (Port { protocol, port }, PortSpec { name: None, target })
        })
        .collect();
    let backends: Backends = backends
        .iter()
        .map(|(address, port, weight)| {
            let (address, port, weight) = (address.parse().unwrap(), *port, *weight);
            (Endpoint { address, port }, Backend { weight, node: None })
        })
        .collect();
    VipSpec {
        mode: Mode::Nat,
        ports,
        backends,
        ..VipSpec::default()
    }
}

fn shown(services: &Services) -> Vec<String> {
    let services = services.iter().map(|(frontend, service)| {
        let backends = service.backends.iter().map(|backend| {
            let drains = if backend.draining { " drains" } else { "" };
            format!(
                "{} {} x{}{drains}",
                backend.address, backend.port, backend.weight
            )
        });
        let backends: Vec<String> = backends.collect();
        format!("{frontend} {:?}: {}", service.mode, backends.join(", "))
    });
    services.collect()
}

#[test]
fn each_port_of_each_address_is_a_service_of_the_backends_of_its_family() {
    let mut state = state();
    let backends = [
        ("10.9.0.1", 0, 1),
        ("10.9.0.2", 9090, 2),
        ("10.9.0.3", 80, 0),
        ("fd00:9::1", 0, 1),
    ];
    put(&mut state, "www", nat(&[(80, 8080), (443, 0)], &backends));
    put(&mut state, "local", VipSpec::default());
    let services = Balanced::default().follow(&state, ME);
    assert_eq!(
        shown(&services),
        [
            "10.0.0.0:80/tcp Nat: 10.9.0.1 8080 x1, 10.9.0.2 9090 x2, 10.9.0.3 0 x0 drains",
            "10.0.0.0:443/tcp Nat: 10.9.0.1 0 x1, 10.9.0.2 9090 x2, 10.9.0.3 80 x0 drains",
            "[fd00::]:80/tcp Nat: fd00:9::1 8080 x1",
            "[fd00::]:443/tcp Nat: fd00:9::1 0 x1",
        ]
    );
}

#[test]
fn what_does_not_concern_backends_changes_nothing_and_what_does_only_its_own() {
    let (mut state, mut balanced) = (state(), Balanced::default());
    put(&mut state, "a", nat(&[(80, 0)], &[("10.9.0.1", 0, 1)]));
    put(&mut state, "b", nat(&[(80, 0)], &[("10.9.0.1", 0, 1)]));
    let first = balanced.follow(&state, ME);
    apply(&mut state, Command::Ripen);
    put(&mut state, "plain", VipSpec::default());
    let labelled = Command::PutVip {
        name: name("b"),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        spec: state.vips()[&name("b")].spec.as_ref().clone(),
        expect: Expect::Any,
    };
    apply(&mut state, labelled);
    assert!(Arc::ptr_eq(&first, &balanced.follow(&state, ME)));
    put(&mut state, "b", nat(&[(80, 0)], &[("10.9.0.2", 0, 1)]));
    let second = balanced.follow(&state, ME);
    assert!(!Arc::ptr_eq(&first, &second));
    let same = |frontend: &&Frontend| Arc::ptr_eq(&first[*frontend], &second[*frontend]);
    let kept: Vec<_> = second
        .keys()
        .filter(same)
        .map(ToString::to_string)
        .collect();
    // The backend that has changed is none of the IPv6 address's.
    assert_eq!(
        kept,
        ["10.0.0.0:80/tcp", "[fd00::]:80/tcp", "[fd00::1]:80/tcp"]
    );
}

#[test]
fn packets_of_mode_dsr_travel_as_the_vip_says() {
    let (mut state, mut balanced) = (state(), Balanced::default());
    for (dispatch, shows) in [
        (Dispatch::L2, "L2"),
        (Dispatch::Ipip, "Ipip"),
        (Dispatch::Gue, "Gue"),
    ] {
        let spec = VipSpec {
            mode: Mode::Dsr,
            dispatch,
            addresses: vec!["10.0.0.3".parse().unwrap()],
            ..nat(&[(80, 0)], &[("10.8.0.1", 0, 1)])
        };
        put(&mut state, "www", spec);
        assert_eq!(
            shown(&balanced.follow(&state, ME)),
            [format!("10.0.0.3:80/tcp Dsr({shows}): 10.8.0.1 0 x1")]
        );
    }
}

#[test]
fn an_address_that_another_vip_has_now_is_served_by_that_one() {
    let (mut state, mut balanced) = (state(), Balanced::default());
    let only = |backend| VipSpec {
        addresses: vec!["10.0.0.3".parse().unwrap()],
        ..nat(&[(80, 0)], &[(backend, 0, 1)])
    };
    put(&mut state, "z", only("10.9.0.1"));
    assert_eq!(
        shown(&balanced.follow(&state, ME)),
        ["10.0.0.3:80/tcp Nat: 10.9.0.1 0 x1"]
    );
    put(&mut state, "a", only("10.9.0.2"));
    delete(&mut state, "z");
    assert_eq!(
        shown(&balanced.follow(&state, ME)),
        ["10.0.0.3:80/tcp Nat: 10.9.0.2 0 x1"]
    );
    delete(&mut state, "a");
    assert!(balanced.follow(&state, ME).is_empty());
}

#[test]
fn by_traffic_policy_local_only_the_nodes_own_backends_are_used_wherever_they_are_by_now() {
    let (mut state, mut balanced) = (state(), Balanced::default());
    let peer = "10.0.255.1:7400".parse().unwrap();
    let (cluster, beat_key) = ([7; 16], [1; 32]);
    let bootstrap = Command::Bootstrap {
        cluster,
        name: name("n1"),
        peer,
        beat_key,
    };
    apply(&mut state, bootstrap);
    let backends = [
        ("10.0.255.1", 81, 1),
        ("10.9.0.2", 0, 1),
        ("10.9.0.3", 0, 1),
    ];
    let mut spec = VipSpec {
        families: Families::Ipv4,
        traffic: TrafficPolicy::Local,
        ..nat(&[(80, 0)], &backends)
    };
    let mut named = spec.backends.values_mut();
    named.nth(1).unwrap().node = Some(name("n1"));
    named.next().unwrap().node = Some(name("n2"));
    put(&mut state, "www", spec);
    let own = ["10.0.0.0:80/tcp Nat: 10.0.255.1 81 x1, 10.9.0.2 0 x1"];
    assert_eq!(shown(&balanced.follow(&state, ME)), own);
    let interface = Interface {
        name: "eth0".into(),
        up: true,
        prefixes: vec![Prefix {
            address: "10.9.0.3".parse().unwrap(),
            len: 24,
        }],
        mac: Default::default(),
    };
    let report = Command::NodeReport {
        node: ME,
        interfaces: vec![interface],
        membership: 0,
    };
    apply(&mut state, report);
    let own = ["10.0.0.0:80/tcp Nat: 10.0.255.1 81 x1, 10.9.0.2 0 x1, 10.9.0.3 0 x1"];
    assert_eq!(shown(&balanced.follow(&state, ME)), own);
}

#[test]
fn a_backend_that_is_down_drains_unless_all_of_its_family_are() {
    let (mut state, mut balanced) = (state(), Balanced::default());
    let backends = [("10.9.0.1", 0, 1), ("10.9.0.2", 0, 1), ("fd00:9::1", 0, 1)];
    put(&mut state, "www", nat(&[(80, 0)], &backends));
    let draining = |balanced: &mut Balanced, down: &[&str]| {
        let endpoint = |address: &&str| Endpoint {
            address: address.parse().unwrap(),
            port: 0,
        };
        let down = down.iter().map(endpoint).collect();
        let down = Arc::new(Down::from([(name("www"), down)]));
        balanced.heed(&state, ME, &down);
        let services = balanced.follow(&state, ME);
        let all = services.values().flat_map(|service| &service.backends);
        let draining = all.filter(|backend| backend.draining);
        let mut draining: Vec<_> = draining.map(|it| it.address.to_string()).collect();
        draining.sort();
        draining
    };
    let none: [&str; 0] = [];
    assert_eq!(draining(&mut balanced, &[]), none);
    assert_eq!(draining(&mut balanced, &["10.9.0.2"]), ["10.9.0.2"]);
    assert_eq!(draining(&mut balanced, &["10.9.0.1", "10.9.0.2"]), none);
    assert_eq!(
        draining(&mut balanced, &["10.9.0.1", "fd00:9::1"]),
        ["10.9.0.1"]
    );
    assert_eq!(draining(&mut balanced, &[]), none);
}

#[test]
fn affinity_and_source_ranges_are_those_of_each_service() {
    let mut state = state();
    let range = |(address, len): (&str, u8)| Prefix {
        address: address.parse().unwrap(),
        len,
    };
    let spec = VipSpec {
        affinity: Affinity::Client,
        sources: [("10.0.0.0", 8), ("fd00::", 8)].map(range).into(),
        ..nat(&[(80, 0)], &[("10.9.0.1", 0, 1)])
    };
    put(&mut state, "a", spec);
    let spec = VipSpec {
        affinity: Affinity::Client,
        affinity_timeout: Some(Millis(90_000)),
        ..nat(&[(80, 0)], &[("10.9.0.1", 0, 1)])
    };
    put(&mut state, "b", spec);
    put(&mut state, "c", nat(&[(80, 0)], &[("10.9.0.1", 0, 1)]));
    let services = Balanced::default().follow(&state, ME);
    let told: Vec<_> = services
        .values()
        .map(|service| (service.affinity, service.ranges.len()))
        .collect();
    // Two addresses each, IPv4 first.
    let seconds = |n| Some(Duration::from_secs(n));
    let each = [(seconds(3 * 3600), 2), (seconds(90), 0), (None, 0)];
    assert_eq!(told, [each, each].concat());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Box<VipSpec>),
    Delete(u8),
    /// A copy knows of no change: everything is looked at again.
    Forget,
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    let vip = || 0u8..4;
    let families = prop_oneof![Just(Families::Ipv4), Just(Families::PreferDual)];
    let spec =
        (0u16..3, 0u8..3, families, any::<bool>()).prop_map(|(port, backend, families, local)| {
            let backends = [("10.9.0.1", 0, 1), ("fd00:9::1", 0, 1), ("10.9.0.2", 0, 1)];
            let spec = nat(&[(80 + port, 0)], &backends[..usize::from(backend)]);
            let mode = if local { Mode::Local } else { Mode::Nat };
            let backends = if local {
                Backends::new()
            } else {
                spec.backends
            };
            VipSpec {
                families,
                mode,
                backends,
                sharing_key: Some("k".into()),
                ..spec
            }
        });
    prop_oneof![
        4 => (vip(), spec).prop_map(|(vip, spec)| Step::Put(vip, Box::new(spec))),
        2 => vip().prop_map(Step::Delete),
        1 => Just(Step::Forget),
        3 => Just(Step::Follow),
    ]
}

proptest! {
    #[test]
    fn services_that_followed_are_those_that_would_be_made_anew(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut state, mut balanced) = (state(), Balanced::default());
        for step in steps {
            match step {
                Step::Put(vip, spec) => put(&mut state, &format!("v{vip}"), *spec),
                Step::Delete(vip) if state.vips().contains_key(&name(&format!("v{vip}"))) => {
                    delete(&mut state, &format!("v{vip}"));
                }
                Step::Delete(_) => {}
                Step::Forget => state = state.clone(),
                Step::Follow => {
                    let followed = balanced.follow(&state, ME);
                    prop_assert_eq!(followed, Balanced::default().follow(&state, ME));
                }
            }
        }
    }
}
