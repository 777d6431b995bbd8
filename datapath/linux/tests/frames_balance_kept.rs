//! Answers of backends that see clients' addresses, frame by frame: which of the packets that come by are some, what they become,
//! and that all others are left alone.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::{IpAddr, SocketAddr};

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, TABLE, ip, key, table};
use support::bench::{Direction, Verdict};
use support::segment::{ACK, FIN, Piece, RST, SYN, Segment, Transport, complaint_from, too_big};
use support::with_net;
use vipd_datapath_common::balance::{Reason, balance_flags, flow_flags, service_flags};
use vipd_datapath_common::flags;

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            if case.how == Forward::Keep {
                check(&case);
            }
        }
    });
}

/// An address of the family of the case.
fn one_of(case: &Case, v4: &str, v6: &str) -> IpAddr {
    ip(if case.vip.is_ipv4() { v4 } else { v6 })
}

/// It goes on to the host's own stack as it came, and nothing is remembered of it.
fn left_alone(balanced: &Balanced, packet: &Segment, what: &str) {
    let flows = balanced.count_flows();
    let expected = (Verdict::Pass, packet.frame());
    assert_eq!(balanced.ingress(packet), expected, "{what}: {packet:?}");
    assert_eq!(balanced.count_flows(), flows, "{what}: {packet:?}");
}

#[test]
fn a_backend_that_speaks_first_to_the_next_holder_is_understood_by_the_table_alone() {
    each(|case| {
        for flags in [ACK, FIN | ACK, RST, RST | ACK] {
            let mut balanced = case.bench();
            let answer = case.answers(flags);
            let expected = (Verdict::Answer, case.answered(&answer).frame());
            assert_eq!(balanced.ingress(&answer), expected, "{case:?} {flags}");
            let half = balanced.flow(&answer).expect("the backend's half");
            assert!(half.has(flow_flags::REVERSE | flow_flags::KEEP));
            assert_eq!((half.packets, half.ifindex), (1, balanced.bench.ifindex));
            let client = balanced.flow(&case.asks(ACK)).expect("the client's half");
            if case.is_tcp() {
                let told = |progress: vipd_datapath_common::balance::Progress| {
                    (progress.fin, progress.peer_fin, progress.reset)
                };
                let (fin, reset) = (u8::from(flags & FIN != 0), u8::from(flags & RST != 0));
                assert_eq!(told(half.progress), (fin, 0, reset), "{case:?} {flags}");
                assert_eq!(told(client.progress), (0, fin, reset), "{case:?} {flags}");
                assert_eq!(client.progress.established, 1, "{case:?} {flags}");
            }
            assert_eq!(balanced.records().len(), 1, "the one after it is told");
            let tally = balanced.tally(SERVICE, BACKEND);
            assert_eq!((tally.flows, tally.packets), (1, [0, 1]), "{case:?}");
            // And its client goes on where it was.
            let asks = case.asks(ACK);
            let expected = (Verdict::Answer, case.asked(&asks).frame());
            assert_eq!(balanced.ingress(&asks), expected, "{case:?}");
            assert_eq!(balanced.count_flows(), 2, "{case:?}");
        }
    });
}

#[test]
fn pieces_of_the_first_answer_of_an_unknown_flow_follow_the_first_one() {
    each(|case| {
        let balanced = case.bench();
        for (offset, more) in [(0, true), (10, false)] {
            let piece = Segment {
                piece: Some(Piece {
                    id: 7,
                    offset,
                    more,
                }),
                payload: vec![1; 64],
                ..case.answers(ACK)
            };
            let expected = (Verdict::Answer, case.answered(&piece).frame());
            assert_eq!(balanced.ingress(&piece), expected, "{case:?} {offset}");
        }
    });
}

#[test]
fn what_a_backend_sends_beside_its_services_is_left_alone() {
    each(|case| {
        let balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        let answer = case.answers(ACK);
        let mut from_elsewhere = answer.clone();
        from_elsewhere.source.set_port(22);
        left_alone(&balanced, &from_elsewhere, "another port of it");
        let mut of_another = answer.clone();
        let other = one_of(case, "10.9.0.22", "fd09::22");
        of_another.source.set_ip(other);
        left_alone(&balanced, &of_another, "another host");
        let mut other_protocol = answer.clone();
        other_protocol.transport = match answer.transport {
            Transport::Tcp(_) => Transport::Udp,
            Transport::Udp | Transport::Unsummed => Transport::Tcp(ACK),
        };
        left_alone(&balanced, &other_protocol, "another protocol");
        let mut frame = answer.frame();
        frame[5] ^= 1; // to another host, seen since the interface is promiscuous
        let seen = balanced.bench.run(Direction::Ingress, &frame);
        assert_eq!(seen, (Verdict::Pass, frame), "{case:?}");
        assert_eq!(balanced.dropped(Reason::Stray), 0, "{case:?}");
    });
}

#[test]
fn nothing_is_looked_at_where_no_service_keeps_clients() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        balanced.node(0, 0);
        left_alone(&balanced, &case.answers(ACK), "a known flow");
    });
}

#[test]
fn a_connection_that_a_backend_has_of_its_own_is_left_alone_for_as_long_as_it_lasts() {
    each(|case| {
        if !case.is_tcp() {
            return;
        }
        let balanced = case.bench();
        for flags in [SYN | ACK, ACK, ACK, FIN | ACK, RST] {
            left_alone(&balanced, &case.answers(flags), "its own");
        }
        // The same tuple by the virtual IP is another connection.
        balanced.ingress(&case.asks(SYN));
        let answer = case.answers(SYN | ACK);
        let expected = (Verdict::Answer, case.answered(&answer).frame());
        assert_eq!(balanced.ingress(&answer), expected, "{case:?}");
    });
}

#[test]
fn an_unknown_answer_that_cannot_be_tied_to_one_service_is_left_alone_and_counted() {
    each(|case| {
        let protocol = case.transport.number();
        let answer = case.answers(ACK);
        let mut shared = case.bench();
        shared.answers(case.backend, protocol, None);
        left_alone(&shared, &answer, "two services");
        assert_eq!(shared.tally(0, 0).dropped(Reason::Stray), 1, "{case:?}");

        let mut elsewhere = case.bench();
        let other = one_of(case, "10.9.0.22", "fd09::22");
        elsewhere.add_backend(BACKEND + 1, SocketAddr::new(other, 8080), false);
        let all = table(|_| BACKEND + 1);
        elsewhere.tables.insert(TABLE, all, 0).unwrap();
        left_alone(&elsewhere, &answer, "the table leads elsewhere");
        assert_eq!(elsewhere.tally(0, 0).dropped(Reason::Stray), 1, "{case:?}");
        // And the client's flow, which is another one, stays what it is.
        elsewhere.ingress(&case.asks(ACK));
        elsewhere
            .tables
            .insert(TABLE, table(|_| BACKEND), 0)
            .unwrap();
        left_alone(&elsewhere, &answer, "the client's flow leads elsewhere");
        let flow = elsewhere.flow(&case.asks(ACK)).unwrap();
        assert_eq!(flow.backend, BACKEND + 1, "{case:?}");
    });
}

#[test]
fn what_a_backend_answers_to_this_host_itself_is_left_alone() {
    each(|case| {
        let mut balanced = case.bench();
        let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
        entry.source = case.client.ip().into();
        balanced.backends.insert(BACKEND, entry, 0).unwrap();
        left_alone(&balanced, &case.answers(ACK), "asked whether it is well");
    });
}

#[test]
fn a_client_that_a_backend_would_answer_past_this_host_is_seen_as_the_virtual_ip() {
    each(|case| {
        let front = if case.vip.is_ipv4() { 96 + 24 } else { 64 };
        let neighbour = one_of(case, "10.9.0.99", "fd09::99");
        let held = one_of(case, "192.0.2.77", "2001:db8::77");
        for (client, on_link) in [
            (neighbour, true),
            (case.backend.ip(), false),
            (case.backend.ip(), true),
            (held, false),
        ] {
            let mut balanced = case.bench();
            balanced.bench.manage(&held.to_string(), 0);
            let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
            entry.flags = if on_link { front << 8 } else { 0 };
            balanced.backends.insert(BACKEND, entry, 0).unwrap();
            let mut packet = case.asks(SYN);
            packet.source.set_ip(client);
            // What it says to that client directly has nothing to do with it, now and once it has a flow.
            let direct = Segment::new(case.backend, packet.source, case.answers(ACK).transport);
            left_alone(&balanced, &direct, "direct");
            let seen = SocketAddr::new(case.vip.ip(), packet.source.port());
            let expected = packet.became(seen, case.backend, 1);
            assert_eq!(
                balanced.ingress(&packet),
                (Verdict::Answer, expected.frame()),
                "{case:?} {client} {on_link}"
            );
            let answer = Segment::new(case.backend, seen, case.answers(ACK).transport);
            let expected = answer.became(case.vip, packet.source, 1);
            assert_eq!(
                balanced.ingress(&answer),
                (Verdict::Answer, expected.frame()),
                "{case:?} {client} {on_link}"
            );
            left_alone(&balanced, &direct, "direct");
        }
    });
}

#[test]
fn answers_leave_as_the_virtual_ip_only_while_this_node_may_speak_for_it() {
    each(|case| {
        let answer = case.answers(ACK);
        for known in [false, true] {
            for past_the_deadline in [false, true] {
                let mut balanced = case.bench();
                if known {
                    balanced.ingress(&case.asks(SYN));
                }
                if past_the_deadline {
                    balanced.bench.deadline(1);
                } else {
                    let shut = flags::LOCAL | flags::BALANCED;
                    balanced.bench.manage(&case.vip.ip().to_string(), shut);
                }
                if known {
                    let expected = (Verdict::Drop, answer.frame());
                    assert_eq!(balanced.ingress(&answer), expected, "{case:?}");
                } else {
                    left_alone(&balanced, &answer, "not held");
                }
            }
        }
    });
}

#[test]
fn a_holder_that_leaves_hands_answers_on_and_the_next_one_sends_them_to_clients() {
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    each(|case| {
        let vip = case.vip.ip().to_string();
        let answer = case.answers(ACK);
        let mut leaving = case.bench();
        leaving.ingress(&case.asks(SYN));
        let hand = flags::HAND | flags::LOCAL | flags::BALANCED;
        leaving.bench.manage_with(&vip, hand, PEER, u64::MAX);
        let (verdict, out) = leaving.ingress(&answer);
        let hop = answer.became(answer.source, answer.destination, 1).frame();
        let handed = [&PEER[..], &support::MAC_HOST, &hop[12..]].concat();
        assert_eq!((verdict, out), (Verdict::Answer, handed), "{case:?}");

        let mut next = case.bench();
        next.ingress(&case.asks(SYN));
        let take = flags::TAKE | flags::LOCAL | flags::BALANCED;
        next.bench.manage_with(&vip, take, PEER, 0);
        let dropped = (Verdict::Drop, answer.frame());
        assert_eq!(next.ingress(&answer), dropped, "{case:?}: it has no right");
        let asks = case.asks(ACK).frame();
        let from_peer = [&asks[..6], &PEER, &asks[12..]].concat();
        next.bench.run(Direction::Ingress, &from_peer);
        let expected = (Verdict::Answer, case.answered(&answer).frame());
        assert_eq!(next.ingress(&answer), expected, "{case:?}");
    });
}

#[test]
fn what_waits_for_a_neighbour_leaves_as_the_virtual_ip_only_while_that_is_held() {
    each(|case| {
        let mut balanced = case.bench();
        let out = case.answered(&case.answers(ACK)).frame();
        let (verdict, _) = balanced.bench.run(Direction::Egress, &out);
        assert_eq!(verdict, Verdict::Pass, "{case:?}");
        balanced.bench.deadline(1);
        let (verdict, _) = balanced.bench.run(Direction::Egress, &out);
        assert_eq!(verdict, Verdict::Drop, "{case:?}");
    });
}

#[test]
fn a_client_hears_from_the_virtual_ip_what_backends_and_their_routers_say() {
    each(|case| {
        let mut balanced = case.bench();
        let question = case.asks(ACK);
        balanced.ingress(&question);
        let seen = case.asked(&question);
        let router = one_of(case, "198.51.100.1", "2001:db8:1::1");
        let (vip, client) = (case.vip.ip(), case.client.ip());
        for from in [case.backend.ip(), router] {
            for length in [28, 48, 1_000].map(|n| n + if case.vip.is_ipv4() { 0 } else { 20 }) {
                let error = too_big(from, client, 50, &seen, length);
                let sent = Segment {
                    hops: seen.hops,
                    ..question.clone()
                };
                let expected = too_big(vip, client, 49, &sent, length);
                let got = balanced.bench.run(Direction::Ingress, &error);
                assert_eq!(got, (Verdict::Answer, expected), "{case:?} {length}");
            }
        }
        let mut other = seen.clone();
        other.source.set_port(1);
        let error = too_big(router, client, 50, &other, 1_000);
        let got = balanced.bench.run(Direction::Ingress, &error);
        assert_eq!(got, (Verdict::Pass, error), "{case:?}: of no flow");
        balanced.bench.deadline(1);
        let error = too_big(router, client, 50, &seen, 1_000);
        let got = balanced.bench.run(Direction::Ingress, &error);
        assert_eq!(got, (Verdict::Drop, error), "{case:?}: fenced");
    });
}

#[test]
fn a_backend_hears_from_the_virtual_ip_that_its_answer_goes_no_further() {
    const MTU: usize = 1500;
    each(|case| {
        let mut balanced = case.bench();
        let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
        entry.ifindex = balanced.bench.ifindex;
        balanced.backends.insert(BACKEND, entry, 0).unwrap();
        balanced.ingress(&case.asks(SYN));
        let v4 = case.vip.is_ipv4();
        let last = Segment {
            hops: 1,
            ..case.answers(ACK)
        };
        let kind = if v4 { [11, 0] } else { [3, 0] };
        let expected = complaint_from(case.vip.ip(), &last, kind, 0);
        assert_eq!(balanced.ingress(&last), (Verdict::Answer, expected));
        let mut big = case.answers(ACK);
        big.payload.clear();
        big.payload = vec![0xa5; MTU + 1 - big.packet().len()];
        let kind = if v4 { [3, 4] } else { [2, 0] };
        let expected = complaint_from(case.vip.ip(), &big, kind, MTU as u32);
        assert_eq!(balanced.ingress(&big), (Verdict::Answer, expected));
    });
}

#[test]
fn an_answer_of_a_flow_whose_own_half_was_forgotten_is_known_again() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(ACK));
        let answer = case.answers(ACK);
        balanced.flows.remove(&key(&answer)).unwrap();
        let expected = (Verdict::Answer, case.answered(&answer).frame());
        assert_eq!(balanced.ingress(&answer), expected, "{case:?}");
        assert_eq!(balanced.count_flows(), 2, "{case:?}");
    });
}

#[test]
fn what_is_to_or_from_a_virtual_ip_that_is_none_any_more_is_left_alone_whatever_is_remembered() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        balanced.bench.leave(&case.vip.ip().to_string());
        left_alone(&balanced, &case.asks(ACK), "to it");
        left_alone(&balanced, &case.answers(ACK), "its client asks by itself");
    });
}

#[test]
fn answers_of_a_backend_on_this_host_do_not_come_in_from_others() {
    with_net(|_| async {
        let local = |case: &Case| case.how == Forward::Local;
        for case in Case::all().into_iter().filter(local) {
            let mut balanced = case.bench();
            let both = balance_flags::LOCAL_BACKENDS | balance_flags::KEPT_CLIENTS;
            balanced.node(both, 0);
            balanced.ingress(&case.asks(SYN));
            left_alone(&balanced, &case.answers(ACK), "forged");
        }
    });
}

#[test]
fn a_backend_on_this_host_is_served_as_in_all_of_nat() {
    with_net(|_| async {
        let local = |case: &Case| case.how == Forward::Local;
        for case in Case::all().into_iter().filter(local) {
            let mut balanced = case.bench();
            balanced.flag(service_flags::KEEP);
            let asks = case.asks(SYN);
            let expected = (case.goes(), case.asked(&asks).frame());
            assert_eq!(balanced.ingress(&asks), expected, "{case:?}");
            let flow = balanced.flow(&asks).unwrap();
            assert!(!flow.has(flow_flags::KEEP), "{case:?}");
            assert_eq!(balanced.records(), [], "nobody is told: {case:?}");
        }
    });
}

#[test]
fn an_answer_whose_place_has_become_that_of_another_flow_goes_nowhere() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        let answer = case.answers(ACK);
        let mut half = balanced.flows.get(&key(&answer), 0).unwrap();
        half.proof = key(&case.asks(ACK)).proof();
        balanced.flows.insert(key(&answer), half, 0).unwrap();
        let hand = flags::HAND | flags::LOCAL | flags::BALANCED;
        let vip = case.vip.ip().to_string();
        let peer = [2, 0, 0, 0, 0, 9];
        balanced.bench.manage_with(&vip, hand, peer, u64::MAX);
        let dropped = (Verdict::Drop, answer.frame());
        assert_eq!(balanced.ingress(&answer), dropped, "{case:?}");
    });
}

#[test]
fn an_unknown_answer_for_a_service_of_all_ports_is_from_the_port_that_was_asked() {
    each(|case| {
        let mut balanced = Balanced::new();
        let all = |address| SocketAddr::new(address, 0);
        let (vip, backend) = (all(case.vip.ip()), all(case.backend.ip()));
        balanced.serve(vip, case.transport.number(), case.how, backend);
        let answer = case.answers(ACK);
        let asked = SocketAddr::new(case.vip.ip(), answer.source.port());
        let expected = answer.became(asked, case.client, 1).frame();
        let got = balanced.ingress(&answer);
        assert_eq!(got, (Verdict::Answer, expected), "{case:?}");
    });
}

#[test]
fn an_unknown_answer_to_who_may_not_use_the_service_is_left_alone() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.flag(service_flags::RANGES);
        let answer = case.answers(ACK);
        left_alone(&balanced, &answer, "of no range");
        let (client, bits) = match case.client.ip() {
            IpAddr::V4(address) => (address.to_string(), 32),
            IpAddr::V6(address) => (address.to_string(), 128),
        };
        balanced.allow(SERVICE, &client, bits);
        let expected = (Verdict::Answer, case.answered(&answer).frame());
        assert_eq!(balanced.ingress(&answer), expected, "{case:?}");
    });
}

#[test]
fn an_unknown_answer_without_a_hop_left_is_left_alone() {
    each(|case| {
        let last = Segment {
            hops: 1,
            ..case.answers(ACK)
        };
        left_alone(&case.bench(), &last, "no hop");
    });
}

#[test]
fn an_unknown_answer_ends_no_other_flow_of_its_client() {
    each(|case| {
        // The client was shown to the backend as the virtual IP when its flow began.
        let mut balanced = case.bench();
        let at = balanced.services.keys().next().unwrap().unwrap();
        let keeping = balanced.services.get(&at, 0).unwrap();
        let mut plain = keeping;
        plain.flags &= !service_flags::KEEP;
        balanced.services.insert(at, plain, 0).unwrap();
        balanced.ingress(&case.asks(SYN));
        balanced.services.insert(at, keeping, 0).unwrap();
        left_alone(&balanced, &case.answers(ACK), "shown as the VIP");

        // It is with another port of the backend, which was that of the service then.
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        let port = SocketAddr::new(case.backend.ip(), case.backend.port() + 1);
        balanced.add_backend(BACKEND, port, false);
        let protocol = case.transport.number();
        balanced.answers(port, protocol, Some((case.vip, BACKEND)));
        let mut answer = case.answers(ACK);
        answer.source = port;
        left_alone(&balanced, &answer, "another port");
    });
}
