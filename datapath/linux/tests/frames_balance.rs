//! Packets of services, frame by frame: what becomes of them, and what is remembered and counted.
//! Expected frames are built from scratch, so that every byte and every checksum is compared.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::balance::{BACKEND, Case, Forward, SERVICE, TO_BACKENDS, key, target};
use support::bench::Verdict;
use support::segment::{ACK, FIN, RST, SYN};
use support::with_net;
use vipd_datapath_common::balance::{Direction, Reason, flow_flags};
use vipd_datapath_common::flags;

/// Runs a check of each mode, protocol and family, on a bench of its own.
fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            check(&case);
        }
    });
}

#[test]
fn the_first_packet_of_a_flow_goes_to_the_backend_and_is_recorded() {
    each(|case| {
        let mut balanced = case.bench();
        let packet = case.asks(SYN);
        let (verdict, out) = balanced.ingress(&packet);
        assert_eq!(
            (verdict, out),
            (case.goes(), case.asked(&packet).frame()),
            "{case:?}"
        );

        let flow = balanced.flow(&packet).expect("the client's half");
        assert_eq!(target(&flow).ip(), case.backend.ip(), "{case:?}");
        assert_eq!((flow.backend, flow.service), (BACKEND, SERVICE), "{case:?}");
        assert_eq!(flow.has(flow_flags::LOCAL), case.how == Forward::Local);
        assert_eq!(flow.has(flow_flags::DSR), case.how == Forward::Dsr);
        assert_eq!(flow.has(flow_flags::KEEP), case.how == Forward::Keep);
        assert!(!flow.has(flow_flags::REVERSE));
        assert_eq!(
            flow.ifindex,
            if case.how == Forward::Local {
                0
            } else {
                TO_BACKENDS
            }
        );
        assert_eq!((flow.packets, flow.bytes), (1, packet.frame().len() as u64));
        assert_eq!(
            flow.progress,
            Default::default(),
            "nothing but a SYN was sent"
        );

        let halves = if case.how == Forward::Dsr { 1 } else { 2 };
        assert_eq!(balanced.count_flows(), halves, "{case:?}");
        let records = balanced.records();
        if case.how.is_hop() {
            assert_eq!(records.len(), 1, "one for whoever holds the address next");
            assert_eq!(records[0].key, key(&packet));
            assert_eq!(records[0].flow.destination, flow.destination);
        } else {
            assert!(records.is_empty(), "{case:?}: nothing to tell");
        }
    });
}

#[test]
fn answers_come_from_the_address() {
    each(|case| {
        if case.how == Forward::Dsr {
            return; // They do not come by.
        }
        let balanced = case.bench();
        let asks = case.asks(SYN);
        balanced.ingress(&asks);
        let answers = case.answers(SYN | ACK);
        let (verdict, out) = balanced.bench.run(case.way_back(), &answers.frame());
        assert_eq!(
            (verdict, out),
            (case.goes(), case.answered(&answers).frame()),
            "{case:?}"
        );
        let flow = balanced.flow(&answers).expect("the backend's half");
        assert!(flow.has(flow_flags::REVERSE));
        let arrival = if case.how == Forward::Local {
            0
        } else {
            balanced.bench.ifindex
        };
        assert_eq!((flow.ifindex, flow.packets), (arrival, 1), "{case:?}");
        assert_eq!(flow.other(case.transport.number()), key(&asks), "{case:?}");
    });
}

#[test]
fn packets_of_a_known_flow_go_the_same_way_whatever_the_table_says_by_then() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        balanced.tables.remove(&support::balance::TABLE).unwrap();
        for _ in 0..3 {
            let packet = case.asks(ACK);
            let (verdict, out) = balanced.ingress(&packet);
            assert_eq!(
                (verdict, out),
                (case.goes(), case.asked(&packet).frame()),
                "{case:?}"
            );
        }
        let flow = balanced.flow(&case.asks(ACK)).unwrap();
        assert_eq!(flow.packets, 4, "{case:?}");
        assert_eq!(flow.progress.established == 1, case.is_tcp(), "{case:?}");
    });
}

#[test]
fn packets_bytes_and_flows_are_counted_by_service_and_backend() {
    each(|case| {
        let balanced = case.bench();
        let (asks, answers) = (case.asks(ACK), case.answers(ACK));
        for _ in 0..3 {
            balanced.ingress(&asks);
        }
        if case.how != Forward::Dsr {
            balanced.bench.run(case.way_back(), &answers.frame());
        }
        let tally = balanced.tally(SERVICE, BACKEND);
        let back = u64::from(case.how != Forward::Dsr);
        assert_eq!(tally.flows, 1, "{case:?}");
        assert_eq!(tally.packets, [3, back], "{case:?}");
        let length = asks.frame().len() as u64;
        assert_eq!(tally.bytes[Direction::Forward as usize], 3 * length);
        assert_eq!(tally.bytes[Direction::Reverse as usize], back * length);
        assert_eq!(tally.drops, [0; Reason::COUNT], "{case:?}");
    });
}

#[test]
fn an_end_of_a_connection_is_known_to_both_halves() {
    each(|case| {
        if !case.is_tcp() || case.how == Forward::Dsr {
            return;
        }
        let balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        balanced
            .bench
            .run(case.way_back(), &case.answers(SYN | ACK).frame());
        balanced.ingress(&case.asks(ACK));
        balanced
            .bench
            .run(case.way_back(), &case.answers(FIN | ACK).frame());
        let client = balanced.flow(&case.asks(0)).unwrap().progress;
        let backend = balanced.flow(&case.answers(0)).unwrap().progress;
        assert_eq!((client.peer_fin, client.fin, client.established), (1, 0, 1));
        assert_eq!((backend.fin, backend.peer_fin), (1, 0));
        assert!(!client.is_over());
        balanced.ingress(&case.asks(FIN | ACK));
        for packet in [case.asks(0), case.answers(0)] {
            let flow = balanced.flow(&packet).unwrap();
            assert!(flow.progress.is_over(), "{case:?}");
        }
    });
}

#[test]
fn a_reset_of_either_side_ends_both_halves() {
    each(|case| {
        if !case.is_tcp() || case.how == Forward::Dsr {
            return;
        }
        for by_client in [true, false] {
            let balanced = case.bench();
            balanced.ingress(&case.asks(SYN));
            if by_client {
                balanced.ingress(&case.asks(RST));
            } else {
                balanced
                    .bench
                    .run(case.way_back(), &case.answers(RST | ACK).frame());
            }
            for packet in [case.asks(0), case.answers(0)] {
                let flow = balanced.flow(&packet).unwrap();
                assert!(flow.progress.is_over(), "{case:?}");
            }
        }
    });
}

#[test]
fn a_shut_address_balances_nothing() {
    each(|case| {
        for past_the_deadline in [false, true] {
            let mut balanced = case.bench();
            balanced.ingress(&case.asks(SYN));
            if past_the_deadline {
                balanced.bench.deadline(vipd_datapath::boottime_ns());
            } else {
                let shut = flags::LOCAL | flags::BALANCED;
                balanced.bench.manage(&case.vip.ip().to_string(), shut);
            }
            let packet = case.asks(ACK);
            let (verdict, out) = balanced.ingress(&packet);
            assert_eq!((verdict, out), (Verdict::Drop, packet.frame()), "{case:?}");
            if case.how == Forward::Local {
                let (verdict, _) = balanced.egress(&case.answers(ACK));
                assert_eq!(verdict, Verdict::Drop, "an answer of a former holder");
            }
        }
    });
}

#[test]
fn who_asks_for_a_connection_to_a_port_without_a_service_is_answered_by_this_host() {
    each(|case| {
        if !case.is_tcp() {
            return; // `frames_balance_odd` has what becomes of UDP.
        }
        let balanced = case.bench();
        let mut packet = case.asks(SYN);
        packet.destination.set_port(22);
        let (verdict, out) = balanced.ingress(&packet);
        assert_eq!((verdict, out), (Verdict::Pass, packet.frame()), "{case:?}");
        assert_eq!(balanced.count_flows(), 0);
    });
}

#[test]
fn the_next_holder_balances_what_is_handed_to_it_and_only_that() {
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    each(|case| {
        let mut balanced = case.bench();
        let vip = case.vip.ip().to_string();
        let taking = flags::TAKE | flags::LOCAL | flags::BALANCED;
        balanced.bench.manage_with(&vip, taking, PEER, 0);
        let packet = case.asks(ACK);
        assert_eq!(
            balanced.ingress(&packet),
            (Verdict::Drop, packet.frame()),
            "{case:?}"
        );
        let from = |frame: Vec<u8>| [&frame[..6], &PEER, &frame[12..]].concat();
        let (handed, expected) = (from(packet.frame()), from(case.asked(&packet).frame()));
        let (verdict, out) = balanced
            .bench
            .run(support::bench::Direction::Ingress, &handed);
        assert_eq!((verdict, out), (case.goes(), expected), "{case:?}");
    });
}

#[test]
fn a_holder_that_leaves_hands_on_what_it_would_have_balanced() {
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        let vip = case.vip.ip().to_string();
        let leaving = flags::HAND | flags::LOCAL | flags::BALANCED;
        balanced.bench.manage_with(&vip, leaving, PEER, u64::MAX);
        let packet = case.asks(ACK);
        let (verdict, out) = balanced.ingress(&packet);
        let frame = packet.became(packet.source, packet.destination, 1).frame();
        let handed = [&PEER[..], &support::MAC_HOST, &frame[12..]].concat();
        assert_eq!((verdict, out), (Verdict::Answer, handed), "{case:?}");
    });
}
