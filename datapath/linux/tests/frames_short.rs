//! The way in front of ingress (XDP), frame by frame: what takes it leaves as ingress would have sent it, and everything
//! else is left to ingress untouched.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, key};
use support::bench::{Direction, Verdict};
use support::packet::tagged;
use support::segment::{ACK, FIN, Piece, RST, SYN, Segment, Transport, too_big};
use support::short::{bench, forward, last_seen, left, opened, plain, prepare};
use support::{MAC_HOST, run, with_net};
use vipd_datapath::boottime_ns;
use vipd_datapath_common::balance::{Half, service_flags};
use vipd_datapath_common::flags;

/// After so long a packet goes the long way: 2^34 ns.
const LONG_WAY: u64 = 1 << 34;

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        prepare();
        for case in Case::all() {
            check(&case);
        }
    });
}

/// What a packet of an open flow is sent on as. Not the one in a while that goes the long way.
fn sent(balanced: &mut Balanced, segment: &Segment, what: &str) -> Vec<u8> {
    last_seen(balanced, segment, boottime_ns());
    let (verdict, out) = balanced.bench.short(&segment.frame()).unwrap();
    assert_eq!(verdict, Verdict::Answer, "{what}");
    out
}

#[test]
fn packets_of_open_flows_leave_as_ingress_would_have_sent_them_and_are_counted_alike() {
    each(|case| {
        let (mut short, long) = (opened(case), opened(case));
        for (segment, to) in plain(case) {
            for (hops, payload) in [(64, 34), (2, 0), (255, 1), (64, 1)] {
                let segment = Segment {
                    hops,
                    payload: (0..payload).collect(),
                    ..segment.clone()
                };
                let (verdict, expected) = long.ingress(&segment);
                assert_eq!(verdict, Verdict::Answer, "{case:?}");
                let out = sent(&mut short, &segment, &format!("{case:?} {segment:?}"));
                assert_eq!(out[12..], expected[12..], "{case:?} {hops} {payload}");
                assert_eq!(
                    (&out[..6], &out[6..12]),
                    (&to[..], &MAC_HOST[..]),
                    "{case:?}"
                );
            }
            let (one, other) = (short.flow(&segment).unwrap(), long.flow(&segment).unwrap());
            assert_eq!(
                (one.packets, one.bytes),
                (other.packets, other.bytes),
                "{case:?}"
            );
            assert_eq!(one.progress, other.progress, "{case:?}");
            assert!(one.seen > 0 && one.seen <= boottime_ns(), "{case:?}");
        }
        assert_eq!(
            short.tally(SERVICE, BACKEND),
            long.tally(SERVICE, BACKEND),
            "{case:?}"
        );
    });
}

#[test]
fn a_datagram_without_a_checksum_gets_none() {
    each(|case| {
        if case.is_tcp() || case.vip.is_ipv6() {
            return;
        }
        let (mut short, long) = (opened(case), opened(case));
        for (segment, _) in plain(case) {
            let unsummed = Segment {
                transport: Transport::Unsummed,
                ..segment
            };
            let (_, expected) = long.ingress(&unsummed);
            let out = sent(&mut short, &unsummed, &format!("{case:?}"));
            assert_eq!(out[12..], expected[12..], "{case:?}");
        }
    });
}

#[test]
fn backends_that_see_clients_are_reached_by_the_long_way_and_answer_by_it() {
    each(|case| {
        if matches!(case.how, Forward::Local | Forward::Keep) {
            let balanced = opened(case);
            left(&balanced, &case.asks(ACK).frame(), "asks");
            left(&balanced, &case.answers(ACK).frame(), "answers");
        }
    });
}

#[test]
fn what_begins_ends_or_is_unusual_is_left_to_ingress() {
    each(|case| {
        let balanced = opened(case);
        for (segment, _) in plain(case) {
            let what = |what: &str| format!("{what}: {case:?}");
            if case.is_tcp() {
                for flags in [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK] {
                    let turn = Segment {
                        transport: Transport::Tcp(flags),
                        ..segment.clone()
                    };
                    left(&balanced, &turn.frame(), &what("it begins or ends"));
                }
            }
            let mut stranger = segment.clone();
            stranger.source.set_port(41_000);
            left(&balanced, &stranger.frame(), &what("no flow"));
            for (offset, more) in [(0, true), (10, true), (10, false)] {
                let piece = Some(Piece {
                    id: 7,
                    offset,
                    more,
                });
                let piece = Segment {
                    piece,
                    ..segment.clone()
                };
                left(&balanced, &piece.frame(), &what("a piece"));
            }
            if case.vip.is_ipv4() {
                let options = Segment {
                    options: vec![1; 8],
                    ..segment.clone()
                };
                left(&balanced, &options.frame(), &what("options"));
            } else {
                // Destination options that say nothing, in front of the rest.
                let mut frame = segment.frame();
                let next = std::mem::replace(&mut frame[20], 60);
                frame.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
                left(&balanced, &frame, &what("an extension header"));
            }
            let frame = segment.frame();
            left(&balanced, &tagged(&frame, 5), &what("a tag"));
            for mac in [[0xff; 6], [2, 0, 0, 0, 0, 9], [1, 0, 0x5e, 0, 0, 1]] {
                let other = [&mac[..], &frame[6..]].concat();
                left(&balanced, &other, &what("for others"));
            }
            if case.how == Forward::Nat {
                for hops in [0, 1] {
                    let last = Segment {
                        hops,
                        ..segment.clone()
                    };
                    left(&balanced, &last.frame(), &what("no hop is left"));
                }
            }
            let headers =
                if case.vip.is_ipv4() { 34 } else { 54 } + if case.is_tcp() { 20 } else { 8 };
            for length in 14..headers {
                left(&balanced, &frame[..length], &what("cut off"));
            }
        }
        let router = if case.vip.is_ipv4() {
            "198.51.100.1"
        } else {
            "2001:db8:1::1"
        };
        let about = case.answered(&case.answers(ACK));
        let error = too_big(router.parse().unwrap(), case.vip.ip(), 50, &about, 300);
        left(&balanced, &error, "an error");
    });
}

#[test]
fn a_connection_that_was_not_established_on_this_node_is_so_by_the_long_way_first() {
    each(|case| {
        if plain(case).is_empty() || !case.is_tcp() {
            return;
        }
        let mut balanced = bench(case);
        balanced.ingress(&case.asks(SYN));
        let ack = case.asks(ACK).frame();
        left(&balanced, &ack, "nothing but a SYN has come");
        balanced.bench.ingress(&ack);
        sent(&mut balanced, &case.asks(ACK), "established");
    });
}

#[test]
fn one_packet_in_a_while_goes_the_long_way_so_that_the_kernel_asks_for_neighbours() {
    each(|case| {
        let mut balanced = opened(case);
        for (segment, _) in plain(case) {
            sent(&mut balanced, &segment, "fresh");
            last_seen(&mut balanced, &segment, boottime_ns() - LONG_WAY);
            left(&balanced, &segment.frame(), "old");
            balanced.ingress(&segment);
            let seen = balanced.flow(&segment).unwrap().seen;
            assert!(boottime_ns() - seen < LONG_WAY, "fresh again");
            sent(&mut balanced, &segment, "fresh again");
        }
    });
}

#[test]
fn nothing_is_sent_on_for_an_address_that_is_not_open_here() {
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    each(|case| {
        let vip = case.vip.ip().to_string();
        let usual = flags::LOCAL | flags::BALANCED;
        for (segment, _) in plain(case) {
            let frame = segment.frame();
            let balanced = &mut opened(case);
            sent(balanced, &segment, "open");
            let refused = |balanced: &Balanced, what: &str| {
                left(balanced, &frame, what);
                let (verdict, _) = balanced.bench.run(Direction::Ingress, &frame);
                assert_ne!(verdict, Verdict::Pass, "{what}: ingress decides");
            };
            balanced.bench.manage(&vip, usual);
            refused(balanced, "shut");
            balanced.bench.manage(&vip, usual | flags::BACKEND);
            left(balanced, &frame, "a backend of another holder");
            balanced
                .bench
                .manage_with(&vip, usual | flags::HAND, PEER, 0);
            refused(balanced, "handing on");
            balanced
                .bench
                .manage_with(&vip, usual | flags::TAKE, PEER, 0);
            refused(balanced, "taking");
            let handed = [&frame[..6], &PEER, &frame[12..]].concat();
            left(
                balanced,
                &handed,
                "handed to this node: ingress remembers that",
            );
            balanced
                .bench
                .manage_with(&vip, usual | flags::OPEN | flags::HAND, PEER, 0);
            left(balanced, &frame, "half way");
            balanced.bench.manage(&vip, usual | flags::OPEN);
            sent(balanced, &segment, "open again");
            balanced.bench.misplace(
                &vip,
                if vip.contains(':') {
                    "fd09::77"
                } else {
                    "10.9.0.77"
                },
            );
            left(balanced, &frame, "a place that has become another's");
            balanced.bench.manage(&vip, usual | flags::OPEN);
            balanced.bench.manage_on(&vip, usual | flags::OPEN, 1);
            left(balanced, &frame, "it is on another interface");
            balanced.bench.manage(&vip, flags::OPEN | flags::LOCAL);
            left(balanced, &frame, "no services");
            balanced.bench.manage(&vip, usual | flags::OPEN);
            for over in [boottime_ns(), 1, 0] {
                balanced.bench.deadline(over);
                refused(balanced, "the lease is over");
            }
            balanced
                .bench
                .deadline(boottime_ns() + 600 * support::SECOND);
            sent(balanced, &segment, "and the lease is back");
        }
    });
}

#[test]
fn what_would_leave_as_another_address_than_the_one_that_is_open_is_left_to_egress() {
    each(|case| {
        if case.how != Forward::Nat {
            return;
        }
        let mut balanced = opened(case);
        let segment = case.asks(ACK);
        let mut half = balanced.flows.get(&key(&segment), 0).unwrap();
        half.flow.source.octets[15] ^= 1;
        balanced.flows.insert(key(&segment), half, 0).unwrap();
        left(&balanced, &segment.frame(), "another source");
    });
}

#[test]
fn a_half_in_a_place_that_has_become_anothers_sends_nothing() {
    each(|case| {
        if case.how == Forward::Local {
            return;
        }
        let mut balanced = opened(case);
        let segment = case.asks(ACK);
        let mut other = segment.clone();
        other.source.set_port(40_001);
        let half = balanced.flows.get(&key(&segment), 0).unwrap();
        let taken = Half::new(&key(&other), half.flow);
        balanced.flows.insert(key(&segment), taken, 0).unwrap();
        left(&balanced, &segment.frame(), "anothers");
        assert_eq!(balanced.flow(&segment), Some(half.flow), "not even counted");
    });
}

#[test]
fn where_the_kernel_does_not_know_the_next_hop_at_once_it_is_left_to_ingress() {
    each(|case| {
        if plain(case).is_empty() {
            return;
        }
        let balanced = &mut opened(case);
        let (segment, frame) = (case.asks(ACK), case.asks(ACK).frame());
        let backend = case.backend.ip().to_string();
        let mac = "02:00:00:00:00:21";
        run("ip", &["neigh", "del", &backend, "dev", "lan"]);
        left(balanced, &frame, "no neighbour");
        let entry = [
            "neigh",
            "replace",
            &backend,
            "lladdr",
            mac,
            "dev",
            "lan",
            "nud",
            "permanent",
        ];
        run("ip", &entry);
        sent(balanced, &segment, "a neighbour");

        forward(false);
        left(balanced, &frame, "forwarding is off");
        forward(true);
        sent(balanced, &segment, "forwarding is on");

        let router = if case.vip.is_ipv4() {
            "10.9.0.2"
        } else {
            "fd09::2"
        };
        let prefix = format!("{backend}/{}", if case.vip.is_ipv4() { 32 } else { 128 });
        let route = |verb: &str, more: &[&str]| {
            run("ip", &[&["route", verb, &prefix][..], more].concat());
        };
        route("add", &["dev", "lan", "via", router]);
        if case.how == Forward::Dsr {
            left(balanced, &frame, "a router would bring it back");
        } else {
            let out = sent(balanced, &segment, "by a router");
            assert_eq!(out[..6], support::short::ROUTER);
        }
        route("del", &[]);
        if case.vip.is_ipv4() {
            route("add", &["dev", "lan", "mtu", "lock", "60"]);
            left(balanced, &frame, "too big for the route");
            route("del", &[]);
        }
        // Led to another interface when it began.
        let mut half = balanced.flows.get(&key(&segment), 0).unwrap();
        half.flow.ifindex = 1;
        balanced.flows.insert(key(&segment), half, 0).unwrap();
        left(balanced, &frame, "another interface");
    });
}

#[test]
fn what_travels_inside_other_packets_is_wrapped_by_ingress() {
    each(|case| {
        if case.how != Forward::Dsr {
            return;
        }
        for bits in [service_flags::IPIP, service_flags::GUE] {
            let mut balanced = bench(case);
            balanced.flag(bits);
            balanced.ingress(&case.asks(SYN));
            balanced.ingress(&case.asks(ACK));
            balanced.ingress(&case.asks(ACK));
            assert!(balanced.flow(&case.asks(ACK)).is_some());
            left(&balanced, &case.asks(ACK).frame(), "wrapped");
        }
    });
}
