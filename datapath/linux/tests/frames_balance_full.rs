//! What becomes of new flows, and of those that are known, when there is no room: the table of flows is full, all ports
//! towards a backend are taken, or somebody floods.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::{IpAddr, SocketAddr};

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, key};
use support::bench::Verdict;
use support::segment::{ACK, SYN, Segment};
use support::with_net;
use vipd_datapath_common::balance::{
    Direction, Flow, FlowKey, Half, Progress, Reason, SourcePorts, flow_flags,
};

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            check(&case);
        }
    });
}

/// Halves that a flow takes.
fn halves(case: &Case) -> u32 {
    if case.how == Forward::Dsr { 1 } else { 2 }
}

/// The first packet of another flow of the client.
fn by_port(case: &Case, port: u16) -> Segment {
    let mut packet = case.asks(SYN);
    packet.source.set_port(port);
    packet
}

/// Opens the flow of the case, in both directions.
fn open(balanced: &Balanced, case: &Case) {
    balanced.ingress(&case.asks(SYN));
    if case.how != Forward::Dsr {
        let agrees = case.answers(SYN | ACK).frame();
        balanced.bench.run(case.way_back(), &agrees);
    }
    balanced.ingress(&case.asks(ACK));
}

/// Demands that packets of the open flow of the case go on in both directions, to where they always went.
fn goes_on(balanced: &Balanced, case: &Case) {
    let (asks, answers) = (case.asks(ACK), case.answers(ACK));
    assert_eq!(
        balanced.ingress(&asks),
        (case.goes(), case.asked(&asks).frame()),
        "{case:?}"
    );
    if case.how != Forward::Dsr {
        let (verdict, out) = balanced.bench.run(case.way_back(), &answers.frame());
        assert_eq!(
            (verdict, out),
            (case.goes(), case.answered(&answers).frame()),
            "{case:?}"
        );
    }
}

#[test]
fn a_full_table_refuses_new_flows_of_nat_and_keeps_all_that_it_has() {
    const FLOWS: u16 = 4;
    each(|case| {
        if case.how == Forward::Dsr {
            return;
        }
        // With room for one half more, of which a new flow takes away nothing that stays.
        for more in [0, 1] {
            let room = u32::from(FLOWS) * 2 + more;
            let mut balanced = case.bench_with_flows(room);
            open(&balanced, case);
            for port in 1..FLOWS {
                let packet = by_port(case, 50_000 + port);
                assert_eq!(balanced.ingress(&packet).0, case.goes(), "{case:?}");
            }
            for port in 0..3 {
                let packet = by_port(case, 51_000 + port);
                assert_eq!(
                    balanced.ingress(&packet),
                    (Verdict::Drop, packet.frame()),
                    "{case:?} {more}"
                );
                assert!(balanced.flow(&packet).is_none(), "{case:?} {more}");
            }
            let tally = balanced.tally(SERVICE, BACKEND);
            assert_eq!(tally.dropped(Reason::TableFull), 3, "{case:?} {more}");
            assert_eq!(tally.drops.iter().sum::<u64>(), 3, "{case:?} {more}");
            assert_eq!(tally.flows, u64::from(FLOWS), "{case:?} {more}");
            assert_eq!(balanced.count_flows(), usize::from(FLOWS) * 2, "{case:?}");
            goes_on(&balanced, case);

            // One that ends makes room for another one.
            let gone = by_port(case, 50_001);
            let client = balanced.flow(&gone).unwrap();
            let backends = client.other(case.transport.number());
            balanced.flows.remove(&key(&gone)).unwrap();
            balanced.flows.remove(&backends).unwrap();
            let packet = by_port(case, 51_000);
            assert_eq!(balanced.ingress(&packet).0, case.goes(), "{case:?} {more}");
            assert!(balanced.flow(&packet).is_some(), "{case:?} {more}");
        }
    });
}

#[test]
fn with_dsr_a_full_table_loses_nothing_and_the_table_of_backends_alone_leads_on() {
    const FLOWS: u16 = 4;
    each(|case| {
        if case.how != Forward::Dsr {
            return;
        }
        let balanced = case.bench_with_flows(FLOWS.into());
        open(&balanced, case);
        for port in 1..FLOWS {
            balanced.ingress(&by_port(case, 50_000 + port));
        }
        let before = balanced.tally(SERVICE, BACKEND);
        let unknown = by_port(case, 51_000);
        for _ in 0..3 {
            assert_eq!(
                balanced.ingress(&unknown),
                (case.goes(), case.asked(&unknown).frame()),
                "{case:?}"
            );
        }
        let tally = balanced.tally(SERVICE, BACKEND);
        let forward = Direction::Forward as usize;
        assert_eq!(tally.packets[forward], before.packets[forward] + 3);
        assert_eq!((tally.flows, tally.drops), (before.flows, before.drops));
        assert!(balanced.flow(&unknown).is_none(), "{case:?}");
        assert_eq!(balanced.count_flows(), usize::from(FLOWS), "{case:?}");
        goes_on(&balanced, case);
    });
}

/// A backend's half that belongs to a client who is none of the tests' own.
fn strangers(case: &Case, answers: &FlowKey) -> Half {
    let stranger = if case.vip.is_ipv4() {
        "203.0.113.7"
    } else {
        "2001:db8:ffff::7"
    };
    let flow = Flow {
        source: case.vip.ip().into(),
        destination: stranger.parse::<IpAddr>().unwrap().into(),
        source_port: case.vip.port().to_be_bytes(),
        destination_port: 7u16.to_be_bytes(),
        ifindex: 0,
        flags: flow_flags::REVERSE,
        progress: Progress::default(),
        backend: BACKEND,
        service: SERVICE,
        seen: 0,
        packets: 0,
        bytes: 0,
    };
    Half::new(answers, flow)
}

/// What the backend answers to a source port of this node: the key of its half.
fn answers_to(case: &Case, port: [u8; 2]) -> FlowKey {
    FlowKey {
        destination_port: port,
        ..key(&case.answers(0))
    }
}

#[test]
fn a_new_flow_is_refused_when_no_source_port_is_free_and_each_of_its_ports_is_tried() {
    each(|case| {
        if case.how != Forward::Nat {
            return;
        }
        let mut balanced = case.bench();
        for port in 0..=u16::MAX {
            let answers = answers_to(case, port.to_be_bytes());
            let half = strangers(case, &answers);
            balanced.flows.insert(answers, half, 0).unwrap();
        }
        let known = balanced.count_flows();
        let packet = case.asks(SYN);
        assert_eq!(
            balanced.ingress(&packet),
            (Verdict::Drop, packet.frame()),
            "{case:?}"
        );
        let tally = balanced.tally(SERVICE, BACKEND);
        assert_eq!(tally.dropped(Reason::NoPort), 1, "{case:?}");
        assert_eq!(tally.drops.iter().sum::<u64>(), 1, "{case:?}");
        assert_eq!(balanced.count_flows(), known, "{case:?}");

        // Whichever one of them becomes free is found.
        let ports = SourcePorts::of(&key(&packet));
        let others = (0..SourcePorts::OTHERS).map(|number| ports.other(number));
        for port in [packet.source.port().to_be_bytes()]
            .into_iter()
            .chain(others)
        {
            balanced.flows.remove(&answers_to(case, port)).unwrap();
            assert_eq!(balanced.ingress(&packet).0, Verdict::Answer, "{case:?}");
            assert_eq!(balanced.flow(&packet).unwrap().source_port, port);
            balanced.flows.remove(&key(&packet)).unwrap();
            let taken = strangers(case, &answers_to(case, port));
            balanced
                .flows
                .insert(answers_to(case, port), taken, 0)
                .unwrap();
        }
    });
}

#[test]
fn a_backend_that_sees_the_client_by_another_way_refuses_the_same_port() {
    each(|case| {
        if !matches!(case.how, Forward::Local | Forward::Keep) {
            return;
        }
        let mut balanced = case.bench();
        let answers = key(&case.answers(0));
        let half = strangers(case, &answers);
        balanced.flows.insert(answers, half, 0).unwrap();
        let packet = case.asks(SYN);
        assert_eq!(
            balanced.ingress(&packet),
            (Verdict::Drop, packet.frame()),
            "{case:?}"
        );
        let tally = balanced.tally(SERVICE, BACKEND);
        assert_eq!(tally.dropped(Reason::NoPort), 1, "{case:?}");
        let another = by_port(case, 40_001);
        assert_eq!(balanced.ingress(&another).0, case.goes(), "{case:?}");
    });
}

/// A client that nobody has seen before, by SplitMix64.
fn anybody(case: &Case, number: u64) -> SocketAddr {
    let mut dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    dice = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    dice = (dice ^ (dice >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let [a, b, c, d, e, f, g, h] = (dice ^ (dice >> 31)).to_be_bytes();
    let port = u16::from_be_bytes([g, h]);
    let address = if case.vip.is_ipv4() {
        // 11.0.0.0/8: the client of the case is not in it.
        IpAddr::from([11, a, b, c])
    } else {
        IpAddr::from([0xfd, 11, a, b, c, d, 0, 0, 0, 0, 0, 0, e, f, a, b])
    };
    SocketAddr::new(address, port)
}

/// SYNs of clients by chance, so many; how many of them went on.
fn flood(balanced: &Balanced, case: &Case, count: u64) -> u64 {
    let gets_on = |number| {
        let mut packet = case.asks(SYN);
        packet.source = anybody(case, number);
        balanced.ingress(&packet).0 == case.goes()
    };
    (0..count).map(|number| u64::from(gets_on(number))).sum()
}

#[test]
fn a_flood_of_random_sources_takes_nothing_from_flows_that_are_open() {
    const COUNT: u64 = 2_000;
    const ROOM: u32 = 512;
    const BOUND: u32 = 20;
    each(|case| {
        // The table is the bound, and then the one on new flows in a second.
        for bound in [0, BOUND] {
            let mut balanced = case.bench_with_flows(ROOM);
            balanced.node(case.how.of_node(), bound);
            open(&balanced, case);
            let (asks, answers) = (case.asks(ACK), case.answers(ACK));
            let before = [&asks, &answers].map(|packet| balanced.flow(packet));
            let passed = flood(&balanced, case, COUNT);
            let reason = if bound == 0 {
                Reason::TableFull
            } else {
                Reason::Flood
            };
            let dropped = balanced.dropped(reason);
            if case.how == Forward::Dsr {
                assert_eq!((passed, dropped), (COUNT, 0), "{case:?} {bound}");
            } else {
                assert_eq!(passed + dropped, COUNT, "{case:?} {bound}");
                // However many seconds and CPUs that takes, each of which has its own bound.
                assert!(dropped > COUNT / 2, "{case:?} {bound}: {dropped}");
            }
            let all = balanced.count_flows();
            if bound == 0 {
                assert_eq!(all, ROOM as usize, "{case:?}: it is full");
            } else {
                assert!(all < ROOM as usize, "{case:?}: {all}");
            }
            let after = [&asks, &answers].map(|packet| balanced.flow(packet));
            assert_eq!(after, before, "{case:?} {bound}");
            goes_on(&balanced, case);
            assert_eq!(halves(case) == 2, after[1].is_some(), "{case:?}");
        }
    });
}
