//! How flows begin, end and share: source ports, tuples used again, floods, services without backends.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, TABLE, at, key, table, target};
use support::bench::Verdict;
use support::segment::{ACK, FIN, RST, SYN, Segment, Transport};
use support::{VIP4, VIP6, with_net};
use vipd_datapath_common::balance::{Half, Range, Reason, service_flags, slot};
use vipd_datapath_common::flags;

const OTHER: u32 = BACKEND + 1;

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            check(&case);
        }
    });
}

/// Another backend, to which the table now sends everything.
fn replace_backend(balanced: &mut Balanced, case: &Case) {
    let mut other = case.backend;
    other.set_ip(
        if case.vip.is_ipv4() {
            "10.9.0.22"
        } else {
            "fd09::22"
        }
        .parse()
        .unwrap(),
    );
    balanced.add_backend(OTHER, other, case.how == Forward::Local);
    balanced.tables.insert(TABLE, table(|_| OTHER), 0).unwrap();
}

#[test]
fn a_flow_gets_the_backend_of_its_slot_on_every_node() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.add_backend(OTHER, case.backend, case.how == Forward::Local);
        balanced
            .tables
            .insert(TABLE, table(|slot| BACKEND + (slot % 2) as u32), 0)
            .unwrap();
        for port in 40_000..40_064 {
            let mut packet = case.asks(SYN);
            packet.source.set_port(port);
            balanced.ingress(&packet);
            let chosen = balanced.flow(&packet).unwrap().backend;
            assert_eq!(chosen, BACKEND + slot(&key(&packet)) % 2, "{case:?} {port}");
        }
        let flows = [BACKEND, OTHER].map(|backend| balanced.tally(SERVICE, backend).flows);
        assert_eq!(flows[0] + flows[1], 64);
        assert!(flows.iter().all(|flows| *flows > 10), "{flows:?}");
    });
}

#[test]
fn a_packet_in_the_middle_of_a_connection_of_another_node_goes_on_to_the_same_backend() {
    each(|case| {
        let (before, after) = (case.bench(), case.bench());
        let packet = case.asks(ACK);
        assert_eq!(before.ingress(&packet), after.ingress(&packet), "{case:?}");
        let flow = after.flow(&packet).unwrap();
        let open = case.is_tcp() && case.how != Forward::Dsr;
        assert_eq!(flow.progress.established == 1, open, "{case:?}");
    });
}

#[test]
fn with_dsr_it_takes_two_packets_to_open_a_connection() {
    each(|case| {
        if case.how != Forward::Dsr || !case.is_tcp() {
            return;
        }
        for first in [SYN, ACK] {
            let balanced = case.bench();
            let open = |packet: &Segment| {
                balanced.ingress(packet);
                balanced.flow(packet).unwrap().progress.established == 1
            };
            assert!(!open(&case.asks(first)), "{case:?} {first}");
            assert!(open(&case.asks(ACK)), "{case:?} {first}");
        }
    });
}

#[test]
fn a_half_in_a_place_that_has_become_anothers_carries_nothing() {
    each(|case| {
        let mut balanced = case.bench();
        let packet = case.asks(ACK);
        let mut other = case.asks(ACK);
        other.source.set_port(40_001);
        balanced.ingress(&packet);
        let half = balanced.flows.get(&key(&packet), 0).unwrap();
        // As if the kernel had given the place to the other one under the program's hands.
        let taken = Half::new(&key(&other), half.flow);
        balanced.flows.insert(key(&packet), taken, 0).unwrap();
        let (verdict, out) = balanced.ingress(&packet);
        assert_eq!((verdict, out), (Verdict::Drop, packet.frame()), "{case:?}");
        assert_eq!(balanced.flow(&packet), Some(half.flow), "not even counted");
    });
}

/// Clients whose addresses are alike but for two bytes in the middle, of the family of a case.
fn alike(case: &Case, number: u16) -> IpAddr {
    let [a, b] = number.to_be_bytes();
    if case.vip.is_ipv4() {
        IpAddr::from([10, a, b, 1])
    } else {
        IpAddr::from([0xfd00, 0, 0, number, 0, 0, 0, 1])
    }
}

#[test]
fn clients_with_one_source_port_each_get_another_towards_the_backend_however_alike_they_are() {
    const CLIENTS: u16 = 400;
    each(|case| {
        if case.how != Forward::Nat {
            return;
        }
        // A port that a client shares with all others of its kind (NTP), and one that is anybody's.
        for own in [123, 40_000] {
            let balanced = case.bench();
            let mut ports = BTreeSet::new();
            for number in 0..CLIENTS {
                let mut packet = case.asks(SYN);
                packet.source = SocketAddr::new(alike(case, number), own);
                let (verdict, out) = balanced.ingress(&packet);
                let flow = balanced.flow(&packet).expect("it is remembered");
                let port = u16::from_be_bytes(flow.source_port);
                let from = SocketAddr::new(case.vip.ip(), port);
                assert_eq!(
                    (verdict, out),
                    (
                        Verdict::Answer,
                        packet.became(from, case.backend, 1).frame()
                    ),
                    "{case:?} {number}"
                );
                assert!(number == 0 || port >= 1024, "{case:?} {port}");
                assert!(ports.insert(port), "{case:?} {port}");
                // And each of them gets its own answers.
                let answer = Segment::new(case.backend, from, case.answers(ACK).transport);
                let (_, out) = balanced.ingress(&answer);
                assert_eq!(
                    out,
                    answer.became(case.vip, packet.source, 1).frame(),
                    "{case:?}"
                );
            }
            assert!(ports.contains(&own), "the first keeps its own");
        }
    });
}

#[test]
fn a_client_whose_half_was_forgotten_goes_on_under_its_old_source_port() {
    each(|case| {
        let balanced = &mut case.bench();
        let packet = case.asks(ACK);
        let expected = balanced.ingress(&packet);
        balanced.flows.remove(&key(&packet)).unwrap();
        assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
        assert_eq!(
            balanced.count_flows(),
            if case.how == Forward::Dsr { 1 } else { 2 }
        );
    });
}

#[test]
fn a_new_connection_with_the_tuple_of_one_that_is_over_is_for_todays_backends() {
    each(|case| {
        if !case.is_tcp() {
            return;
        }
        for last in [FIN | ACK, RST] {
            let mut balanced = case.bench();
            balanced.ingress(&case.asks(SYN));
            balanced.ingress(&case.asks(ACK));
            balanced.ingress(&case.asks(last));
            replace_backend(&mut balanced, case);
            // What is still on its way belongs to the old one.
            balanced.ingress(&case.asks(ACK));
            assert_eq!(
                balanced.flow(&case.asks(ACK)).unwrap().backend,
                BACKEND,
                "{case:?}"
            );
            balanced.ingress(&case.asks(SYN));
            let flow = balanced.flow(&case.asks(SYN)).unwrap();
            assert_eq!(flow.backend, OTHER, "{case:?}");
            assert_eq!(flow.progress, Default::default(), "{case:?}");
            assert_eq!(
                balanced.count_flows(),
                if case.how == Forward::Dsr { 1 } else { 2 }
            );
        }
    });
}

#[test]
fn a_client_that_asks_again_before_it_was_answered_gets_a_backend_that_lives() {
    each(|case| {
        if !case.is_tcp() {
            return;
        }
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        replace_backend(&mut balanced, case);
        balanced.ingress(&case.asks(SYN));
        let flow = balanced.flow(&case.asks(SYN)).unwrap();
        assert_eq!(
            (flow.backend, target(&flow).ip() == case.backend.ip()),
            (OTHER, false)
        );
        // An established one stays where it is, whatever claims to begin anew.
        balanced.ingress(&case.asks(ACK));
        balanced
            .tables
            .insert(TABLE, table(|_| BACKEND), 0)
            .unwrap();
        balanced.ingress(&case.asks(SYN));
        assert_eq!(
            balanced.flow(&case.asks(SYN)).unwrap().backend,
            OTHER,
            "{case:?}"
        );
    });
}

#[test]
fn a_client_that_asks_again_begins_one_flow_until_that_was_open() {
    each(|case| {
        if !case.is_tcp() {
            return;
        }
        let balanced = case.bench();
        let begun = |balanced: &Balanced| balanced.tally(SERVICE, BACKEND).flows;
        for _ in 0..3 {
            balanced.ingress(&case.asks(SYN));
        }
        assert_eq!(begun(&balanced), 1, "{case:?}");
        balanced.ingress(&case.asks(ACK));
        balanced.ingress(&case.asks(ACK | FIN));
        balanced.ingress(&case.asks(SYN));
        assert_eq!(begun(&balanced), 2, "{case:?}");
    });
}

#[test]
fn a_service_without_a_backend_drops_and_counts() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.tables.insert(TABLE, table(|_| 0), 0).unwrap();
        let packet = case.asks(SYN);
        assert_eq!(
            balanced.ingress(&packet),
            (Verdict::Drop, packet.frame()),
            "{case:?}"
        );
        assert_eq!(balanced.tally(SERVICE, 0).dropped(Reason::NoBackend), 1);
        assert_eq!(balanced.count_flows(), 0);
    });
}

#[test]
fn a_flood_of_new_flows_is_bounded_and_those_that_are_known_go_on() {
    each(|case| {
        let mut balanced = case.bench();
        let known = case.asks(ACK);
        balanced.ingress(&known);
        balanced.node(case.how.of_node(), 5);
        let mut passed = 0;
        for port in 50_000..50_020 {
            let mut packet = case.asks(SYN);
            packet.source.set_port(port);
            passed += u32::from(balanced.ingress(&packet).0 != Verdict::Drop);
        }
        // Wherever CPUs and seconds change in between, each may begin five more.
        let flood = balanced.dropped(Reason::Flood);
        if case.how == Forward::Dsr {
            assert_eq!(
                (passed, flood),
                (20, 0),
                "{case:?}: the table alone serves them"
            );
            assert!(balanced.count_flows() < 20, "{case:?}");
        } else {
            assert_eq!(u64::from(passed) + flood, 20, "{case:?}");
            assert!(flood > 0, "{case:?}");
        }
        assert_eq!(balanced.ingress(&known).0, case.goes(), "{case:?}");
    });
}

#[test]
fn an_answer_of_an_unknown_connection_is_no_client_of_a_service_of_all_ports() {
    with_net(|_| async {
        for (vip, client, backend) in [
            (VIP4, "192.0.2.9", "10.9.0.21"),
            (VIP6, "2001:db8::9", "fd09::21"),
        ] {
            let mut balanced = Balanced::new();
            balanced.serve(at(vip, 0), 6, Forward::Nat, at(backend, 0));
            balanced.flag(service_flags::ALL_PORTS);
            balanced.allow(Range::ANSWERS, backend, if vip == VIP4 { 32 } else { 128 });
            let sends = |from, flags| {
                let packet = Segment::new(at(from, 80), at(vip, 40_000), Transport::Tcp(flags));
                balanced.ingress(&packet).0
            };
            for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
                assert_eq!(sends(backend, flags), Verdict::Drop, "{vip} {flags}");
            }
            assert_eq!(balanced.dropped(Reason::Stray), 4);
            assert_eq!(balanced.count_flows(), 0);
            assert_eq!(sends(backend, SYN), Verdict::Answer, "it may be a client");
            assert_eq!(sends(client, ACK), Verdict::Answer, "of another node's");
        }
    });
}

#[test]
fn a_service_of_all_ports_takes_those_without_a_service_of_their_own() {
    with_net(|_| async {
        for (vip, client, backend) in [
            (VIP4, "192.0.2.9", "10.9.0.21"),
            (VIP6, "2001:db8::9", "fd09::21"),
        ] {
            let mut balanced = Balanced::new();
            balanced.serve(at(vip, 0), 6, Forward::Nat, at(backend, 0));
            for port in [1, 22, 80, 65_535] {
                let packet = Segment::new(at(client, 40_000), at(vip, port), Transport::Tcp(SYN));
                let expected = packet.became(at(vip, 40_000), at(backend, port), 1);
                assert_eq!(
                    balanced.ingress(&packet),
                    (Verdict::Answer, expected.frame())
                );
            }
            let udp = Segment::new(at(client, 40_000), at(vip, 53), Transport::Udp);
            assert_eq!(
                balanced.ingress(&udp).0,
                Verdict::Drop,
                "no service of UDP, and no socket"
            );
            assert_eq!(balanced.dropped(Reason::Stray), 1);
        }
    });
}

#[test]
fn a_backend_is_a_client_of_its_own_service_like_any_other() {
    with_net(|_| async {
        let (vip, backend) = (at(VIP4, 80), at("10.9.0.21", 8080));
        let mut balanced = Balanced::new();
        balanced.serve(vip, 6, Forward::Nat, backend);
        let client = at("10.9.0.21", 40_000);
        let packet = Segment::new(client, vip, Transport::Tcp(SYN));
        let expected = packet.became(at(VIP4, 40_000), backend, 1);
        assert_eq!(
            balanced.ingress(&packet),
            (Verdict::Answer, expected.frame())
        );
        let answer = Segment::new(backend, at(VIP4, 40_000), Transport::Tcp(SYN | ACK));
        let expected = answer.became(vip, client, 1);
        assert_eq!(
            balanced.ingress(&answer),
            (Verdict::Answer, expected.frame())
        );
    });
}

#[test]
fn a_dsr_backend_that_is_not_the_holder_serves_and_speaks_but_does_not_answer_arp() {
    each(|case| {
        if case.how != Forward::Dsr {
            return;
        }
        let mut balanced = Balanced::new();
        let vip = case.vip.ip().to_string();
        balanced
            .bench
            .manage(&vip, flags::LOCAL | flags::BACKEND | flags::BALANCED);
        let (asks, answer) = (case.asks(SYN), case.answered(&case.answers(SYN | ACK)));
        assert_eq!(
            balanced.ingress(&asks),
            (Verdict::Pass, asks.frame()),
            "{case:?}"
        );
        assert_eq!(
            balanced.egress(&answer),
            (Verdict::Pass, answer.frame()),
            "{case:?}"
        );
        let asked = support::packet::who_has(VIP4, "10.9.0.2");
        if case.vip.is_ipv4() {
            let (verdict, _) = balanced.bench.ingress(&asked);
            assert_eq!(verdict, Verdict::Drop, "that is for the holder");
        }
        assert_eq!(balanced.count_flows(), 0, "only the holder balances");
    });
}

#[test]
fn a_holder_that_is_a_dsr_backend_too_is_silent_once_its_lease_is_over() {
    each(|case| {
        if case.how != Forward::Dsr {
            return;
        }
        let mut balanced = Balanced::new();
        let vip = case.vip.ip().to_string();
        let backend = flags::LOCAL | flags::BACKEND | flags::BALANCED;
        balanced.bench.manage(&vip, backend | flags::OPEN);
        balanced.bench.deadline(1);
        let (asks, answer) = (case.asks(SYN), case.answered(&case.answers(SYN | ACK)));
        assert_eq!(balanced.ingress(&asks).0, Verdict::Drop, "{case:?}");
        assert_eq!(balanced.egress(&answer).0, Verdict::Drop, "{case:?}");
    });
}
