use super::*;
use crate::Protocol;

const DSR: Forward = Forward::Dsr(Dispatch::L2);
const LINK: Reach = Reach {
    ifindex: 2,
    local: false,
    on_link: true,
    source: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))),
    link: None,
    mtu: None,
};
const ROUTED: Reach = Reach {
    on_link: false,
    ..LINK
};
const HERE: Reach = Reach {
    ifindex: 1,
    local: true,
    on_link: true,
    source: None,
    link: None,
    mtu: None,
};

fn frontend() -> Frontend {
    Frontend {
        address: "10.0.0.7".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn backend(address: &str, weight: u32) -> WantedBackend {
    WantedBackend {
        address: address.parse().unwrap(),
        port: 0,
        weight,
        draining: false,
    }
}

/// Covered is the interface of [`LINK`] and [`ROUTED`].
fn host() -> Host {
    Host {
        covered: [2].into(),
        loopback: [80].into(),
    }
}

fn of(mode: Forward, backends: &[WantedBackend], reaches: &[(&str, Option<Reach>)]) -> Goal {
    let backends = backends.to_vec();
    let service = WantedService {
        mode,
        backends,
        keep: false,
        affinity: None,
        ranges: Vec::new(),
    };
    let reaches = reaches
        .iter()
        .map(|(address, reach)| (address.parse().unwrap(), *reach));
    goal(
        &[(frontend(), Arc::new(service))].into(),
        &reaches.collect(),
        &host(),
    )
}

fn in_table(goal: &Goal) -> Vec<String> {
    let recipe = &goal.services[&frontend()].recipe;
    recipe
        .iter()
        .map(|(spot, weight)| format!("{} {weight}", spot.address))
        .collect()
}

#[test]
fn a_backend_at_a_loopback_address_is_there_if_the_node_names_its_port() {
    let found = [("127.0.0.1", Some(HERE))];
    let other = WantedBackend {
        port: 8080,
        ..backend("127.0.0.1", 1)
    };
    let goal = of(Forward::Nat, &[backend("127.0.0.1", 1), other], &found);
    assert_eq!(in_table(&goal), ["127.0.0.1 1"]);
    assert!(goal.local, "answers are looked at");
    let left: Vec<_> = goal
        .left_out
        .iter()
        .map(|left| (left.port, left.why))
        .collect();
    assert_eq!(left, [(8080, Why::Loopback)], "it is not named");
    assert_eq!(goal.spots[&other.spot()], None, "nor by older flows");
    assert!(goal.spots[&backend("127.0.0.1", 1).spot()].is_some());
    for mode in [DSR, Forward::Dsr(Dispatch::Gue)] {
        let goal = of(mode, &[backend("127.0.0.1", 1)], &found);
        assert_eq!(goal.left_out[0].why, Why::Loopback, "{mode:?}");
    }
}

#[test]
fn a_backend_that_cannot_be_reached_is_left_out_and_named() {
    let found = [("10.0.0.1", Some(LINK)), ("10.0.0.2", None)];
    let backends = [
        backend("10.0.0.1", 1),
        backend("10.0.0.2", 1),
        backend("10.0.0.3", 1),
    ];
    let goal = of(Forward::Nat, &backends, &found);
    assert_eq!(in_table(&goal), ["10.0.0.1 1"]);
    let left: Vec<_> = goal
        .left_out
        .iter()
        .map(|left| (left.backend.to_string(), left.why))
        .collect();
    let unreachable = |address: &str| (address.to_owned(), Why::Unreachable);
    assert_eq!(left, [unreachable("10.0.0.2"), unreachable("10.0.0.3")]);
    assert_eq!(goal.spots.len(), 3, "they keep their numbers");
}

#[test]
fn what_each_mode_makes_of_a_place() {
    let cases = [
        (Forward::Nat, LINK, true, 0, false),
        (Forward::Nat, ROUTED, true, 0, false),
        (Forward::Nat, HERE, true, 0, true),
        (DSR, LINK, true, 0, false),
        (DSR, ROUTED, false, 0, false),
        (DSR, HERE, true, flags::BACKEND, false),
        (Forward::Dsr(Dispatch::Ipip), LINK, true, 0, false),
        (Forward::Dsr(Dispatch::Ipip), ROUTED, true, 0, false),
        (Forward::Dsr(Dispatch::Gue), ROUTED, true, 0, false),
        (
            Forward::Dsr(Dispatch::Gue),
            HERE,
            true,
            flags::BACKEND,
            false,
        ),
    ];
    for (mode, reach, used, mark, local) in cases {
        let goal = of(
            mode,
            &[backend("10.0.0.1", 1)],
            &[("10.0.0.1", Some(reach))],
        );
        let what = format!("{mode:?} {reach:?}");
        assert_eq!(in_table(&goal).len(), usize::from(used), "{what}");
        assert_eq!(goal.left_out.is_empty(), used, "{what}");
        assert_eq!(
            goal.marks[&frontend().address],
            flags::BALANCED | mark,
            "{what}"
        );
        assert_eq!(goal.local, local, "{what}");
    }
}

#[test]
fn nothing_is_encapsulated_without_an_address_of_this_host_to_do_so_from() {
    let anonymous = Reach {
        source: None,
        ..ROUTED
    };
    for (dispatch, left) in [
        (Dispatch::L2, Why::BehindRouter),
        (Dispatch::Ipip, Why::NoSource),
        (Dispatch::Gue, Why::NoSource),
    ] {
        let goal = of(
            Forward::Dsr(dispatch),
            &[backend("10.0.0.1", 1)],
            &[("10.0.0.1", Some(anonymous))],
        );
        assert!(in_table(&goal).is_empty(), "{dispatch}");
        assert_eq!(goal.left_out[0].why, left);
    }
}

#[test]
fn a_backend_behind_an_interface_without_programs_is_left_out() {
    for mode in [Forward::Nat, DSR, Forward::Dsr(Dispatch::Ipip)] {
        let tunnel = Reach { ifindex: 7, ..LINK };
        let goal = of(
            mode,
            &[backend("10.0.0.1", 1)],
            &[("10.0.0.1", Some(tunnel))],
        );
        assert!(in_table(&goal).is_empty());
        assert_eq!(goal.left_out[0].why, Why::NoPrograms);
    }
}

#[test]
fn a_draining_backend_is_in_no_table_and_nothing_is_said_of_it() {
    let draining = WantedBackend {
        draining: true,
        ..backend("10.0.0.1", 5)
    };
    for backend in [draining, backend("10.0.0.1", 0)] {
        let goal = of(Forward::Nat, &[backend], &[("10.0.0.1", Some(LINK))]);
        assert!(in_table(&goal).is_empty() && goal.left_out.is_empty());
        assert_eq!(goal.spots.len(), 1);
        let goal = of(Forward::Nat, &[backend], &[]);
        assert!(goal.left_out.is_empty());
    }
}

#[test]
fn a_backend_of_the_other_family_gets_no_number() {
    let goal = of(
        Forward::Nat,
        &[backend("fd00::1", 1)],
        &[("fd00::1", Some(LINK))],
    );
    assert!(in_table(&goal).is_empty() && goal.spots.is_empty());
    assert_eq!(goal.left_out[0].why, Why::OtherFamily);
}

#[test]
fn an_address_without_services_has_no_mark() {
    assert_eq!(
        goal(&Services::new(), &Reaches::new(), &host()),
        Goal::default()
    );
}

#[test]
fn services_of_the_same_backends_share_a_recipe_in_whatever_order_they_name_them() {
    let (one, two) = (backend("10.0.0.1", 1), backend("10.0.0.2", 3));
    let service = |backends: [WantedBackend; 2]| {
        Arc::new(WantedService {
            mode: Forward::Nat,
            backends: backends.into(),
            keep: false,
            affinity: None,
            ranges: Vec::new(),
        })
    };
    let other = Frontend {
        port: 443,
        ..frontend()
    };
    let services = [
        (frontend(), service([one, two])),
        (other, service([two, one])),
    ];
    let reaches = [one.address, two.address].map(|address| (address, Some(LINK)));
    let goal = goal(&services.into(), &reaches.into(), &host());
    let (a, b) = (
        &goal.services[&frontend()].recipe,
        &goal.services[&other].recipe,
    );
    assert!(Arc::ptr_eq(a, b) && a.len() == 2);
}

#[test]
fn a_backend_that_sees_clients_answers_for_the_one_service_that_its_end_belongs_to() {
    let keeping = |mode, backends: &[WantedBackend]| {
        Arc::new(WantedService {
            mode,
            backends: backends.to_vec(),
            keep: true,
            affinity: None,
            ranges: Vec::new(),
        })
    };
    let at = |address: &str, port| WantedBackend {
        port,
        ..backend(address, 1)
    };
    let port = |port| Frontend { port, ..frontend() };
    let (one, two) = (at("10.0.0.1", 8080), at("10.0.0.2", 0));
    let services = [
        (port(80), keeping(Forward::Nat, &[one, two])),
        (port(443), keeping(Forward::Nat, &[one])),
        (port(53), keeping(DSR, &[at("10.0.0.3", 0)])),
    ];
    let reaches = [one.address, two.address].map(|address| (address, Some(LINK)));
    let goal = goal(&services.into(), &reaches.into(), &host());
    assert!(goal.keeps);
    let end = |address: &str, port| Frontend {
        address: address.parse().unwrap(),
        port,
        protocol: Protocol::Tcp,
    };
    let expected = [
        (end("10.0.0.1", 8080), None), // of both ports
        (end("10.0.0.2", 80), Some((port(80), two.spot()))),
    ];
    assert_eq!(goal.answers, expected.into());
    let flags = |of| goal.services[&of].flags & service_flags::KEEP != 0;
    assert!(flags(port(80)) && !flags(port(53)), "dsr keeps them anyway");
}
