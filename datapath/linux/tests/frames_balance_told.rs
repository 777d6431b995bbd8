//! What the holder itself tells senders of packets that it cannot send on, frame by frame: of what, to whom, and how often.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::SocketAddr;

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, ip};
use support::bench::{Direction, Verdict};
use support::packet::BROADCAST;
use support::segment::{ACK, Piece, SYN, Segment, complaint, too_big};
use support::with_net;
use vipd_datapath_common::balance::{Direction as Way, Reason, flow_flags};

/// MTU of the interface of the bench.
const MTU: usize = 1500;

/// Every service by nat to a backend elsewhere, out of the interface of the bench.
fn each(check: impl Fn(&Case, &mut Balanced) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            if case.how == Forward::Nat {
                let mut balanced = case.bench();
                let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
                entry.ifindex = balanced.bench.ifindex;
                balanced.backends.insert(BACKEND, entry, 0).unwrap();
                check(&case, &mut balanced);
            }
        }
    });
}

/// A packet of so many bytes, IP header and all.
fn of(mut segment: Segment, length: usize) -> Segment {
    segment.payload.clear();
    segment.payload = vec![0xa5; length - segment.packet().len()];
    segment
}

fn too_great(case: &Case, about: &Segment) -> Vec<u8> {
    let kind = if case.vip.is_ipv4() { [3, 4] } else { [2, 0] };
    complaint(about, kind, MTU as u32)
}

fn exceeded(about: &Segment) -> Vec<u8> {
    let kind = if about.source.is_ipv4() { 11 } else { 3 };
    complaint(about, [kind, 0], 0)
}

#[test]
fn a_client_and_a_backend_are_told_what_the_link_to_the_other_carries() {
    each(|case, balanced| {
        let fits = of(case.asks(SYN), MTU);
        let expected = (Verdict::Answer, case.asked(&fits).frame());
        assert_eq!(balanced.ingress(&fits), expected, "{case:?}");
        for packet in [of(case.asks(ACK), MTU + 1), of(case.answers(ACK), MTU + 1)] {
            let expected = (Verdict::Answer, too_great(case, &packet));
            assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
        }
        let tally = balanced.tally(SERVICE, BACKEND);
        assert_eq!(tally.dropped(Reason::TooBig), 2, "{case:?}");
        assert_eq!(tally.packets[Way::Forward as usize], 1, "{case:?}");
        assert_eq!(tally.packets[Way::Reverse as usize], 0, "{case:?}");
    });
}

#[test]
fn a_backend_whose_answer_has_no_hop_left_is_told_so() {
    each(|case, balanced| {
        balanced.ingress(&case.asks(SYN));
        for hops in [0, 1] {
            let packet = Segment {
                hops,
                ..case.answers(ACK)
            };
            let expected = (Verdict::Answer, exceeded(&packet));
            assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
        }
    });
}

#[test]
fn the_quotation_has_all_options_and_the_ports_behind_them() {
    each(|case, balanced| {
        if !case.vip.is_ipv4() {
            return;
        }
        let packet = Segment {
            hops: 1,
            options: vec![1; 40],
            tcp_options: vec![1; if case.is_tcp() { 40 } else { 0 }],
            payload: vec![7; 300],
            ..case.asks(SYN)
        };
        let expected = (Verdict::Answer, exceeded(&packet));
        assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
    });
}

#[test]
fn nobody_is_told_of_an_error() {
    each(|case, balanced| {
        balanced.ingress(&case.asks(SYN));
        let router = ip(if case.vip.is_ipv4() {
            "198.51.100.1"
        } else {
            "2001:db8:1::1"
        });
        let about = case.answered(&case.answers(ACK));
        let frame = too_big(router, case.vip.ip(), 1, &about, 128);
        let (verdict, out) = balanced.bench.run(Direction::Ingress, &frame);
        assert_eq!((verdict, out), (Verdict::Drop, frame), "{case:?}");
    });
}

#[test]
fn of_a_packet_in_pieces_only_the_first_is_spoken_of() {
    each(|case, balanced| {
        let piece = |offset, more| Segment {
            hops: 1,
            piece: Some(Piece {
                id: 7,
                offset,
                more,
            }),
            payload: vec![1; 64],
            ..case.asks(SYN)
        };
        let first = piece(0, true);
        let expected = (Verdict::Answer, exceeded(&first));
        assert_eq!(balanced.ingress(&first), expected, "{case:?}");
        let later = piece(10, false);
        let expected = (Verdict::Drop, later.frame());
        assert_eq!(balanced.ingress(&later), expected, "{case:?}");
    });
}

#[test]
fn who_is_no_single_host_is_told_nothing() {
    each(|case, balanced| {
        let sources = if case.vip.is_ipv4() {
            ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
        } else {
            ["::", "::1", "ff02::1", "ff0e::7"]
        };
        for source in sources {
            let mut packet = case.asks(SYN);
            packet.hops = 1;
            packet.source = SocketAddr::new(ip(source), 40_000);
            let expected = (Verdict::Drop, packet.frame());
            assert_eq!(balanced.ingress(&packet), expected, "{case:?} {source}");
        }
        let neighbour = if case.vip.is_ipv4() {
            "223.255.255.254"
        } else {
            "fe80::1"
        };
        let mut packet = case.asks(SYN);
        packet.hops = 1;
        packet.source = SocketAddr::new(ip(neighbour), 40_000);
        let expected = (Verdict::Answer, exceeded(&packet));
        assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
    });
}

#[test]
fn nothing_is_said_of_a_packet_whose_header_is_spoilt() {
    each(|case, balanced| {
        if !case.vip.is_ipv4() {
            return;
        }
        let mut frame = Segment {
            hops: 1,
            ..case.asks(SYN)
        }
        .frame();
        frame[14 + 12] ^= 1;
        let (verdict, out) = balanced.bench.run(Direction::Ingress, &frame);
        assert_eq!((verdict, out), (Verdict::Drop, frame), "{case:?}");
    });
}

#[test]
fn nothing_is_said_of_what_was_sent_to_many_at_a_time() {
    each(|case, balanced| {
        for group in [BROADCAST, [1, 0, 0x5e, 0, 0, 7]] {
            let mut frame = Segment {
                hops: 1,
                ..case.asks(SYN)
            }
            .frame();
            frame[..6].copy_from_slice(&group);
            let (verdict, out) = balanced.bench.run(Direction::Ingress, &frame);
            assert_eq!((verdict, out), (Verdict::Drop, frame), "{case:?}");
        }
    });
}

#[test]
fn a_holder_whose_lease_is_over_says_nothing() {
    each(|case, balanced| {
        balanced.ingress(&case.asks(SYN));
        balanced.bench.deadline(1);
        let expired = Segment {
            hops: 1,
            ..case.asks(ACK)
        };
        for packet in [expired, of(case.asks(ACK), MTU + 1)] {
            let expected = (Verdict::Drop, packet.frame());
            assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
        }
    });
}

#[test]
fn a_flood_of_packets_without_hops_leaves_room_for_the_news_of_packets_that_are_too_big() {
    with_net(|_| async {
        let case = &Case::all()[0];
        let mut balanced = case.bench();
        let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
        entry.ifindex = balanced.bench.ifindex;
        balanced.backends.insert(BACKEND, entry, 0).unwrap();
        let (expired, big) = (
            Segment {
                hops: 1,
                ..case.asks(SYN)
            },
            of(case.asks(SYN), MTU + 1),
        );
        let cpus = aya::util::nr_cpus().unwrap();
        // More than all accounts together in one second, again and again until no second has passed meanwhile.
        let starved = (0..50).any(|_| {
            let verdicts = (0..1_000 * cpus + 500).map(|_| balanced.ingress(&expired).0);
            let silent = verdicts.filter(|verdict| *verdict == Verdict::Drop).count();
            let (verdict, out) = balanced.ingress(&big);
            assert_eq!((verdict, out), (Verdict::Answer, too_great(case, &big)));
            silent > 0
        });
        assert!(starved, "no bound was reached, so this has shown nothing");
    });
}

#[test]
fn a_client_hears_from_the_virtual_ip_what_this_hosts_stack_says_of_a_packet_to_a_backend_on_it() {
    with_net(|_| async {
        for case in Case::all() {
            if case.how != Forward::Local {
                continue;
            }
            let mut balanced = case.bench();
            let question = case.asks(SYN);
            balanced.ingress(&question);
            assert!(balanced.flow(&question).unwrap().has(flow_flags::LOCAL));
            // "Too big" stands for all errors here: what they quote is treated alike.
            for length in [1_000, if case.vip.is_ipv4() { 28 } else { 48 }] {
                let (seen, client) = (case.asked(&question), case.client.ip());
                let frame = too_big(case.backend.ip(), client, 64, &seen, length);
                let (verdict, out) = balanced.bench.run(Direction::Egress, &frame);
                let expected = too_big(case.vip.ip(), client, 64, &question, length);
                assert_eq!((verdict, out), (Verdict::Pass, expected), "{case:?}");

                let mut other = seen.clone();
                other.source.set_port(1);
                let foreign = too_big(case.backend.ip(), client, 64, &other, length);
                let (verdict, out) = balanced.bench.run(Direction::Egress, &foreign);
                assert_eq!((verdict, out), (Verdict::Pass, foreign), "{case:?}");
            }
            balanced.bench.deadline(1);
            let frame = too_big(
                case.backend.ip(),
                case.client.ip(),
                64,
                &case.asked(&question),
                64,
            );
            let (verdict, out) = balanced.bench.run(Direction::Egress, &frame);
            assert_eq!((verdict, out), (Verdict::Drop, frame), "{case:?}: fenced");
        }
    });
}
