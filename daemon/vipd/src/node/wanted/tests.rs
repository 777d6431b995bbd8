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
