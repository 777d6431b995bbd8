use super::*;

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

#[test]
fn a_daemon_that_ends_leaves_nothing_but_what_it_hands_on_for_a_time() {
    let (to, from) = ([1; 6], [2; 6]);
    let gate = |leased| Gate::Hand {
        to,
        until_ns: 7,
        leased,
    };
    let gates = [
        ("10.0.0.1", gate(false)),
        ("10.0.0.2", gate(true)),
        ("10.0.0.3", Gate::Open),
        ("10.0.0.4", Gate::Take { from }),
    ];
    let addresses = gates.map(|(address, gate)| {
        let wanted = WantedAddress {
            interface: "eth0".into(),
            gate,
            epoch: 1,
        };
        (address.parse().unwrap(), wanted)
    });
    let last = Wanted {
        addresses: addresses.into(),
        ..Wanted::default()
    };
    let names = BTreeSet::from(["eth0".to_owned()]);
    let left = left_behind(Some(&last), &names);
    let kept: Vec<String> = left.addresses.keys().map(ToString::to_string).collect();
    assert_eq!(kept, ["10.0.0.1"]);
    assert!(left.leaving && left.interfaces == names);
    assert!(left_behind(None, &names).addresses.is_empty());
}
