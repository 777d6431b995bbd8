//! What is said of a VIP's ports and backends: what is refused, and what tests of other subjects ask for at random.

use core::ops::Range;

use alloc::collections::BTreeMap;
use proptest::prelude::*;

use super::*;
use crate::rejection::Rejection;
use crate::service::{
    Affinity, Backend, Backends, ClientAddress, Dispatch, Endpoint, Mode, Port, PortSpec, Ports,
    Protocol, TrafficPolicy, serves,
};

/// How a VIP is served, as [`asked`] puts it into a spec.
pub(super) type Serving = (Mode, Ports, Backends, TrafficPolicy);

/// Few ports and few backends, so that they meet; seldom what is refused.
pub(super) fn serving(
    ports: Range<u16>,
    backend: impl Strategy<Value = IpAddr>,
) -> impl Strategy<Value = Serving> {
    let port = prop_oneof![6 => ports, 1 => Just(0)];
    let ports = prop::collection::btree_map(
        port.prop_map(tcp),
        prop_oneof![5 => Just(0), 1 => Just(8080u16)],
        0..3,
    );
    let backends = prop::collection::btree_map(
        (backend, prop_oneof![5 => Just(0), 1 => Just(80u16)])
            .prop_map(|(address, port)| Endpoint { address, port }),
        (0u16..3, prop::option::of(1u8..4)),
        0..3,
    );
    let modes = prop_oneof![4 => Just(Mode::Local), 2 => Just(Mode::Nat), 1 => Just(Mode::Dsr)];
    let (bold, local) = (prop::bool::weighted(0.1), prop::bool::weighted(0.3));
    let more = (bold, local);
    (modes, ports, backends, more).prop_map(|(mode, mut ports, mut backends, (bold, local))| {
        if mode != Mode::Nat && !bold {
            ports.values_mut().for_each(|target| *target = 0);
            backends = backends
                .into_iter()
                .map(|(at, weight)| (Endpoint { port: 0, ..at }, weight))
                .collect();
        }
        if mode == Mode::Local && !bold {
            backends.clear();
        }
        let spec = |target| PortSpec { name: None, target };
        let backend = |(weight, node): (u16, Option<u8>)| Backend {
            weight,
            node: node.map(|i| name(&format!("n{i}"))),
        };
        let traffic = if local && (mode != Mode::Local || bold) {
            TrafficPolicy::Local
        } else {
            TrafficPolicy::Cluster
        };
        (
            mode,
            ports.into_iter().map(|(p, to)| (p, spec(to))).collect(),
            backends
                .into_iter()
                .map(|(at, w)| (at, backend(w)))
                .collect(),
            traffic,
        )
    })
}

/// A spec that is to be served like this.
pub(super) fn asked(spec: VipSpec, (mode, ports, backends, traffic): Serving) -> VipSpec {
    VipSpec {
        mode,
        ports,
        backends,
        traffic,
        ..spec
    }
}

/// Whether ports and backends go together, rule by rule, as far as [`serving`] can break them.
pub(super) fn servable(spec: &VipSpec) -> bool {
    let moved = spec.ports.values().any(|more| more.target != 0);
    let named = spec.backends.keys().any(|endpoint| endpoint.port != 0);
    let own = |endpoint: &Endpoint| spec.addresses.contains(&endpoint.address);
    let all = spec.ports.iter().find(|(port, _)| port.port == 0);
    let by_mode = match spec.mode {
        Mode::Local => !moved && spec.backends.is_empty() && spec.traffic == TrafficPolicy::Cluster,
        Mode::Nat => !spec.ports.is_empty(),
        Mode::Dsr => !spec.ports.is_empty() && !moved && !named,
    };
    let twice = spec.backends.keys().any(|endpoint| {
        let bare = Endpoint {
            port: 0,
            ..*endpoint
        };
        endpoint.port != 0 && spec.backends.contains_key(&bare)
    });
    by_mode
        && all.is_none_or(|(_, more)| more.target == 0 && !named)
        && !spec.backends.keys().any(own)
        && !twice
}

fn tcp(port: u16) -> Port {
    let protocol = Protocol::Tcp;
    Port { protocol, port }
}

fn to(target: u16) -> PortSpec {
    PortSpec { name: None, target }
}

fn called(text: &str) -> PortSpec {
    PortSpec {
        name: Some(name(text)),
        target: 0,
    }
}

/// `10.0.0.1` or `10.0.0.1:80`.
fn at(text: &str) -> Endpoint {
    match text.parse::<SocketAddr>() {
        Ok(socket) => Endpoint {
            address: socket.ip(),
            port: socket.port(),
        },
        Err(_) => Endpoint {
            address: ip(text),
            port: 0,
        },
    }
}

fn spec<const P: usize, const B: usize>(
    mode: Mode,
    ports: [(u16, PortSpec); P],
    backends: [&str; B],
) -> VipSpec {
    VipSpec {
        mode,
        ports: ports.into_iter().map(|(p, more)| (tcp(p), more)).collect(),
        backends: backends.map(|text| (at(text), Backend::default())).into(),
        ..VipSpec::default()
    }
}

fn weighing(weight: u16) -> VipSpec {
    let one = Backend { weight, node: None };
    VipSpec {
        backends: [(at("10.9.0.1"), one)].into(),
        ..spec(Mode::Nat, [(80, to(0))], [])
    }
}

fn on_node(backend: &str, node: &str) -> VipSpec {
    let one = Backend {
        weight: 1,
        node: Some(name(node)),
    };
    VipSpec {
        backends: [(at(backend), one)].into(),
        ..spec(Mode::Nat, [(80, to(0))], [])
    }
}

fn by_udp(backend: &str) -> VipSpec {
    let protocol = Protocol::Udp;
    VipSpec {
        ports: [(Port { protocol, port: 53 }, PortSpec::default())].into(),
        ..spec(Mode::Nat, [], [backend])
    }
}

#[test]
fn a_backend_at_a_loopback_address_is_one_of_each_node() {
    let c = Cluster::of(3);
    let near = VipSpec {
        traffic: TrafficPolicy::Local,
        ..spec(Mode::Nat, [(80, to(8080))], ["127.0.0.1"])
    };
    for node in c.state.nodes().values() {
        assert!(near.has_backend_for(node, Family::V4));
        assert!(!near.has_backend_for(node, Family::V6));
    }
}

#[test]
fn ports_and_backends_that_cannot_be_served_are_refused_with_what_is_wrong() {
    use Mode::{Dsr, Local, Nat};
    let many: BTreeMap<_, _> = (0u8..=255)
        .flat_map(|i| [(10, i), (11, i)])
        .map(|(net, i)| {
            (
                Endpoint {
                    address: IpAddr::from([10, 9, net, i]),
                    port: 0,
                },
                Backend::default(),
            )
        })
        .collect();
    let from = |address: &str, len| VipSpec {
        sources: [Prefix {
            address: ip(address),
            len,
        }]
        .into(),
        ..spec(Nat, [(80, to(0))], [])
    };
    let dispatched = |dispatch, mode| VipSpec {
        dispatch,
        ..spec(mode, [(80, to(0))], [])
    };
    let keeping = |mode| VipSpec {
        client: ClientAddress::Keep,
        ..spec(mode, [(80, to(0))], [])
    };
    let kept = |affinity, ms| VipSpec {
        affinity,
        affinity_timeout: Some(Millis(ms)),
        ..spec(Nat, [(80, to(0))], [])
    };
    let table: [(VipSpec, &str); 35] = [
        (
            kept(Affinity::None, 60_000),
            "has an affinity_timeout and no affinity: choose affinity client",
        ),
        (
            kept(Affinity::Client, 999),
            "has an affinity_timeout of 999 ms: 1 s to 24 h can be",
        ),
        (
            kept(Affinity::Client, 86_400_001),
            "has an affinity_timeout of 86400001 ms: 1 s to 24 h can be",
        ),
        (
            keeping(Dsr),
            "has client_address keep, but its mode is dsr: backends of mode dsr see clients as they are anyway",
        ),
        (
            keeping(Local),
            "has client_address keep, but its mode is local: nothing is sent on",
        ),
        (
            dispatched(Dispatch::Ipip, Nat),
            "has dispatch ipip, but its mode is nat",
        ),
        (
            dispatched(Dispatch::Gue, Local),
            "has dispatch gue, but its mode is local",
        ),
        (
            from("10.0.0.1", 8),
            "source range 10.0.0.1/8, which is no network",
        ),
        (
            from("10.0.0.0", 33),
            "source range 10.0.0.0/33, which is no network",
        ),
        (
            VipSpec {
                mode: Local,
                ..from("10.0.0.0", 8)
            },
            "has an affinity or source_ranges, but its mode is local",
        ),
        (
            VipSpec {
                affinity: Affinity::Client,
                ..spec(Local, [], [])
            },
            "has an affinity or source_ranges, but its mode is local",
        ),
        (
            VipSpec {
                traffic: TrafficPolicy::Local,
                ..spec(Local, [], [])
            },
            "has traffic policy local, but its mode is local",
        ),
        (
            spec(Local, [(80, to(0))], ["10.9.0.1"]),
            "its mode is local: its holder serves it",
        ),
        (
            spec(Local, [(80, to(8080))], []),
            "has a target_port, but its mode is local",
        ),
        (
            spec(Nat, [], ["10.9.0.1"]),
            "is of mode nat and names no port",
        ),
        (
            spec(Dsr, [], ["10.9.0.1"]),
            "is of mode dsr and names no port",
        ),
        (
            spec(Dsr, [(80, to(8080))], ["10.9.0.1"]),
            "has a target_port, but its mode is dsr",
        ),
        (
            spec(Dsr, [(80, to(0))], ["10.9.0.1:80"]),
            "has backend 10.9.0.1:80 with a port, but its mode is dsr",
        ),
        (
            spec(Nat, [(80, called("web")), (81, called("web"))], []),
            "calls both TCP 80 and TCP 81 web",
        ),
        (
            spec(Nat, [(0, to(80))], []),
            "sends TCP all ports to port 80",
        ),
        (
            spec(Nat, [(0, to(0))], ["10.9.0.1:80"]),
            "has backend 10.9.0.1:80 with a port, but TCP all ports",
        ),
        (
            spec(Nat, [(80, to(0))], ["10.9.0.1", "10.9.0.1:80"]),
            "names backend 10.9.0.1 with a port (80) and without one",
        ),
        (
            spec(Nat, [(80, to(0))], ["0.0.0.0"]),
            "no address of a host",
        ),
        (spec(Nat, [(80, to(0))], ["::"]), "no address of a host"),
        (
            spec(Dsr, [(80, to(0))], ["127.0.0.1"]),
            "has backend 127.0.0.1, but its mode is dsr",
        ),
        (
            spec(Nat, [(0, to(0))], ["::1"]),
            "has backend ::1 and TCP all ports: of a loopback address name each port",
        ),
        (
            on_node("127.0.0.1:80", "n2"),
            "has backend 127.0.0.1:80 on node n2, but a loopback address is that of whichever node",
        ),
        (
            by_udp("[::1]:53"),
            "has backend [::1]:53 and port UDP 53, but a loopback address can't answer by UDP",
        ),
        (
            spec(Nat, [(80, to(0))], ["224.0.0.1"]),
            "not the address of one host",
        ),
        (
            spec(Nat, [(80, to(0))], ["255.255.255.255"]),
            "not the address of one host",
        ),
        (
            spec(Nat, [(80, to(0))], ["ff02::1"]),
            "not the address of one host",
        ),
        (
            spec(Nat, [(80, to(0))], ["::ffff:10.0.0.1"]),
            "not the address of one host",
        ),
        (
            spec(Nat, [(80, to(0))], ["fe80::1"]),
            "a link-local address",
        ),
        (
            weighing(257),
            "gives backend 10.9.0.1 weight 257: 0 to 256 can be",
        ),
        (
            VipSpec {
                backends: many,
                ..weighing(1)
            },
            "names 512 backends, more than 256",
        ),
    ];
    let mut c = Cluster::of(1);
    for (spec, wanted) in table {
        let why = c.vip("a", spec.clone()).unwrap_err();
        assert_eq!(why.reason(), "invalid");
        let said = why.to_string();
        assert!(
            said.starts_with("VIP a ") && said.contains(wanted),
            "{said}, not {wanted}: {spec:?}"
        );
    }
}

#[test]
fn what_a_datapath_can_serve_is_taken() {
    use Mode::{Dsr, Local, Nat};
    let kept = |affinity_timeout| VipSpec {
        affinity: Affinity::Client,
        affinity_timeout,
        ..spec(Nat, [(80, to(0))], [])
    };
    let table = [
        spec(Local, [(80, called("web"))], []),
        spec(Local, [(0, to(0))], []),
        spec(
            Nat,
            [(80, to(8080)), (443, to(0))],
            ["10.9.0.1", "10.9.0.2:9090", "[fd00::1]:80", "fd00::2"],
        ),
        spec(Nat, [(80, to(0))], []),
        spec(Nat, [(0, to(0)), (22, to(2222))], ["10.9.0.1"]),
        spec(Dsr, [(0, to(0))], ["10.9.0.1", "fd00::1"]),
        spec(
            Nat,
            [(80, to(8080))],
            ["127.0.0.1", "[::1]:9000", "10.9.0.1"],
        ),
        weighing(0),
        weighing(256),
        kept(None),
        kept(Some(Affinity::SHORTEST)),
        kept(Some(Affinity::LONGEST)),
    ];
    let mut c = Cluster::of(1);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    for spec in table {
        assert!(c.vip("a", spec.clone()).is_ok(), "{spec:?}");
        assert_eq!(*c.state.vips()[&name("a")].spec, spec);
    }
}

#[test]
fn a_vip_is_no_backend_of_another_nor_of_itself() {
    let mut c = Cluster::of(1);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    let own = VipSpec {
        addresses: vec![ip("10.0.0.7")],
        ..spec(Mode::Nat, [(80, to(0))], ["10.0.0.7:81"])
    };
    let said = c.vip("own", own).unwrap_err().to_string();
    assert!(
        said.contains("10.0.0.7:81, which is an address of its own"),
        "{said}"
    );
    c.vip(
        "a",
        VipSpec {
            addresses: vec![ip("10.0.0.9")],
            ..VipSpec::default()
        },
    )
    .unwrap();
    let Err(Rejection::Invalid { why }) = c.vip("b", spec(Mode::Nat, [(80, to(0))], ["10.0.0.9"]))
    else {
        panic!("taken");
    };
    assert!(
        why.contains("backend 10.0.0.9, which is an address of VIP a"),
        "{why}"
    );
    assert!(
        c.vip("b", spec(Mode::Nat, [(80, to(0))], ["10.0.0.10"]))
            .is_ok()
    );
}

#[test]
fn backends_serve_addresses_of_their_own_family_only_unless_they_drain() {
    let four = spec(Mode::Nat, [(80, to(0))], ["10.9.0.1"]).backends;
    let both = spec(Mode::Nat, [(80, to(0))], ["10.9.0.1", "fd00::1"]).backends;
    assert!(serves(&four, Family::V4) && !serves(&four, Family::V6));
    assert!(Family::ALL.into_iter().all(|family| serves(&both, family)));
    assert!(!serves(&Backends::new(), Family::V4));
    assert!(!serves(&weighing(0).backends, Family::V4));
}
