//! Unusual packets to services: options, fragments, the last hop, cut off anywhere, without a flow.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::SocketAddr;

use support::balance::{BACKEND, Balanced, Case, Forward, ROUNDS, SERVICE, at};
use support::bench::{Direction, Verdict};
use support::segment::{ACK, FIN, Piece, RST, SYN, Segment, Transport, complaint};
use support::{VIP4, with_net};
use vipd_datapath_common::balance::Reason;
use vipd_datapath_common::flags;

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            check(&case);
        }
    });
}

#[test]
fn options_of_ip_and_tcp_stay_as_they_are() {
    each(|case| {
        let balanced = case.bench();
        for length in [4, 8, 40] {
            let mut packet = case.asks(SYN);
            if case.vip.is_ipv4() {
                packet.options = vec![1; length];
            }
            packet.tcp_options = vec![1; length];
            let (verdict, out) = balanced.ingress(&packet);
            assert_eq!(
                (verdict, out),
                (case.goes(), case.asked(&packet).frame()),
                "{case:?}"
            );
        }
    });
}

#[test]
fn payloads_of_any_length_keep_their_checksum() {
    each(|case| {
        let balanced = case.bench();
        for length in [0, 1, 2, 3, 63, 255, 400] {
            for fill in [0x00, 0x5a, 0xff] {
                let mut packet = case.asks(ACK);
                packet.payload = vec![fill; length];
                let (verdict, out) = balanced.ingress(&packet);
                let expected = case.asked(&packet).frame();
                assert_eq!((verdict, out), (case.goes(), expected), "{case:?} {length}");
            }
        }
    });
}

#[test]
fn udp_without_a_checksum_stays_without_one() {
    each(|case| {
        if case.is_tcp() || !case.vip.is_ipv4() {
            return;
        }
        let case = Case {
            transport: Transport::Unsummed,
            ..case.clone()
        };
        let balanced = case.bench();
        let packet = case.asks(0);
        let (_, out) = balanced.ingress(&packet);
        assert_eq!(out, case.asked(&packet).frame(), "{case:?}");
        assert_eq!(out[40..42], [0, 0]);
    });
}

#[test]
fn what_has_no_hop_left_goes_no_further_its_sender_is_told_and_it_is_counted() {
    each(|case| {
        let balanced = case.bench();
        for known in [false, true] {
            if known {
                balanced.ingress(&case.asks(SYN));
            }
            for hops in [0, 1] {
                let packet = Segment {
                    hops,
                    ..case.asks(ACK)
                };
                let (verdict, out) = balanced.ingress(&packet);
                let expected = match case.how {
                    Forward::Nat | Forward::Keep => {
                        let exceeded = if case.vip.is_ipv4() { 11 } else { 3 };
                        (Verdict::Answer, complaint(&packet, [exceeded, 0], 0))
                    }
                    // It is no hop, or passes unchanged.
                    Forward::Local => (Verdict::Pass, case.asked(&packet).frame()),
                    Forward::Dsr => (Verdict::Answer, packet.frame()),
                };
                assert_eq!((verdict, out), expected, "{case:?} {hops}");
            }
        }
        let dropped = if case.how.is_hop() { 4 } else { 0 };
        assert_eq!(
            balanced.tally(SERVICE, BACKEND).dropped(Reason::Hops),
            dropped
        );
    });
}

#[test]
fn a_packet_cut_off_inside_its_headers_is_dropped_unchanged() {
    each(|case| {
        let balanced = case.bench();
        let frame = case.asks(SYN).frame();
        let network = if case.vip.is_ipv4() { 34 } else { 54 };
        let headers = network + if case.is_tcp() { 20 } else { 8 };
        for length in network..headers {
            let (verdict, out) = balanced.bench.run(Direction::Ingress, &frame[..length]);
            assert_eq!(
                (verdict, &out[..]),
                (Verdict::Drop, &frame[..length]),
                "{case:?}"
            );
        }
        let cut = (headers - network) as u64;
        assert_eq!(
            balanced.tally(0, 0).dropped(Reason::Malformed),
            cut,
            "{case:?}"
        );
        assert_eq!(balanced.count_flows(), 0);
        // From there on it has all that is needed; what is missing of it, its receiver notices.
        let (verdict, _) = balanced.bench.run(Direction::Ingress, &frame[..headers]);
        assert_eq!(verdict, case.goes(), "{case:?}");
    });
}

#[test]
fn an_ipv4_header_that_claims_to_be_shorter_than_it_can_be_is_dropped() {
    each(|case| {
        if !case.vip.is_ipv4() {
            return;
        }
        let balanced = case.bench();
        for words in 0..5 {
            let mut frame = case.asks(SYN).frame();
            frame[14] = 0x40 + words;
            let (verdict, out) = balanced.bench.run(Direction::Ingress, &frame);
            assert_eq!((verdict, out), (Verdict::Drop, frame), "{case:?}");
        }
    });
}

/// A packet in three pieces.
fn pieces(whole: &Segment) -> [Segment; 3] {
    let piece = |offset, more| {
        Some(Piece {
            id: 4711,
            offset,
            more,
        })
    };
    let later = |offset, more| Segment {
        payload: vec![offset as u8; 16],
        piece: piece(offset, more),
        ..whole.clone()
    };
    [
        Segment {
            piece: piece(0, true),
            ..whole.clone()
        },
        later(10, true),
        later(12, false),
    ]
}

#[test]
fn pieces_of_a_packet_go_where_the_first_one_went() {
    each(|case| {
        let balanced = case.bench();
        for piece in pieces(&case.asks(ACK)) {
            let (verdict, out) = balanced.ingress(&piece);
            let expected = case.asked(&piece).frame();
            assert_eq!(
                (verdict, out),
                (case.goes(), expected),
                "{case:?} {piece:?}"
            );
        }
        assert_eq!(balanced.tally(SERVICE, BACKEND).packets[0], 3);
        if case.how == Forward::Dsr {
            return;
        }
        for piece in pieces(&case.answers(ACK)) {
            let (verdict, out) = balanced.bench.run(case.way_back(), &piece.frame());
            let expected = case.answered(&piece).frame();
            assert_eq!(
                (verdict, out),
                (case.goes(), expected),
                "{case:?} {piece:?}"
            );
        }
    });
}

/// What sends it into the queue again; it looks like an answer here.
const AGAIN: Verdict = Verdict::Answer;

#[test]
fn a_piece_that_comes_before_the_first_one_comes_round_until_that_is_there() {
    each(|case| {
        let balanced = case.bench();
        let [first, later, _] = pieces(&case.asks(ACK));
        assert_eq!(balanced.ingress(&later), (AGAIN, later.frame()), "{case:?}");
        assert_eq!(balanced.tally(0, 0).dropped(Reason::Fragment), 0);
        balanced.ingress(&first);
        let expected = (case.goes(), case.asked(&later).frame());
        assert_eq!(balanced.ingress(&later), expected, "{case:?}");
    });
}

#[test]
fn a_piece_whose_first_one_does_not_come_is_left_to_the_host_in_the_end_and_counted() {
    each(|case| {
        let balanced = case.bench();
        let [_, later, _] = pieces(&case.asks(ACK));
        let left = (Verdict::Pass, later.frame());
        assert_eq!(balanced.in_the_end(&later), left, "{case:?}");
        assert_eq!(balanced.tally(0, 0).dropped(Reason::Fragment), 1);
    });
}

#[test]
fn a_piece_that_has_waited_in_vain_goes_where_the_last_first_one_between_its_hosts_went() {
    each(|case| {
        let balanced = case.bench();
        let [first, later, _] = pieces(&case.asks(ACK));
        balanced.ingress(&first);
        let next = Segment {
            piece: later.piece.map(|piece| Piece { id: 4712, ..piece }),
            ..later.clone()
        };
        let expected = (case.goes(), case.asked(&next).frame());
        assert_eq!(balanced.in_the_end(&next), expected, "{case:?}");
        assert_eq!(balanced.tally(0, 0).dropped(Reason::Fragment), 0);

        let mut another = next;
        another.source.set_ip(match another.source {
            SocketAddr::V4(_) => "10.9.0.99".parse().unwrap(),
            SocketAddr::V6(_) => "fd09::99".parse().unwrap(),
        });
        let left = (Verdict::Pass, another.frame());
        assert_eq!(balanced.in_the_end(&another), left, "{case:?}");
    });
}

#[test]
fn pieces_that_nobody_sent_the_first_of_cost_a_bounded_share_of_a_cpu() {
    with_net(|_| async {
        let case = Case::all().remove(0);
        let balanced = case.bench();
        let [_, later, _] = pieces(&case.asks(ACK));
        // 50,000 rounds a second and CPU, and the test may be moved between CPUs.
        let most = 50_000 / ROUNDS * std::thread::available_parallelism().unwrap().get() as u32;
        (0..most).for_each(|_| drop(balanced.in_the_end(&later)));
        let at_once =
            (0..1_000).any(|_| balanced.ingress(&later) == (Verdict::Pass, later.frame()));
        assert!(at_once, "{case:?}");
    });
}

/// Everything but a first packet, to a port without a service.
fn strays(case: &Case) -> Vec<Segment> {
    let mut packets = vec![];
    for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
        let mut packet = case.asks(flags);
        packet.destination.set_port(50_123);
        packets.push(packet);
        if !case.is_tcp() {
            break;
        }
    }
    packets
}

#[test]
fn an_answer_nobody_here_waits_for_is_dropped_before_the_host_breaks_its_connection() {
    each(|case| {
        let balanced = case.bench();
        for (count, packet) in strays(case).iter().enumerate() {
            let (verdict, out) = balanced.ingress(packet);
            assert_eq!((verdict, out), (Verdict::Drop, packet.frame()), "{case:?}");
            assert_eq!(
                balanced.tally(0, 0).dropped(Reason::Stray),
                count as u64 + 1
            );
        }
    });
}

#[test]
fn a_packet_for_a_socket_of_this_host_passes() {
    each(|case| {
        let balanced = case.bench();
        let any = at(if case.vip.is_ipv4() { "0.0.0.0" } else { "::" }, 50_123);
        let (mut tcp, mut udp) = (None, None);
        if case.is_tcp() {
            tcp = Some(std::net::TcpListener::bind(any).unwrap());
        } else {
            udp = Some(std::net::UdpSocket::bind(any).unwrap());
        }
        for packet in strays(case) {
            let (verdict, out) = balanced.ingress(&packet);
            assert_eq!((verdict, out), (Verdict::Pass, packet.frame()), "{case:?}");
        }
        drop((tcp, udp));
    });
}

#[test]
fn other_protocols_and_addresses_without_services_are_none_of_its_business() {
    with_net(|_| async {
        let mut balanced = Balanced::new();
        balanced.serve(at(VIP4, 80), 6, Forward::Nat, at("10.9.0.21", 8080));
        let udp = Segment::new(at("192.0.2.9", 40_000), at(VIP4, 80), Transport::Udp);
        let mut gre = udp.frame();
        gre[23] = 47;
        let (verdict, out) = balanced.bench.run(Direction::Ingress, &gre);
        assert_eq!((verdict, out), (Verdict::Pass, gre));
        // The same service, but the address is not said to have any.
        balanced.bench.manage(VIP4, flags::OPEN | flags::LOCAL);
        let tcp = Segment {
            transport: Transport::Tcp(SYN),
            ..udp
        };
        assert_eq!(balanced.ingress(&tcp), (Verdict::Pass, tcp.frame()));
    });
}
