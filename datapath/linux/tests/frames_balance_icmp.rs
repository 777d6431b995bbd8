//! ICMP errors about packets of services: to whom they go, and what they speak of.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::IpAddr;

use support::balance::{Balanced, Case, Forward, ip};
use support::bench::{Direction, Verdict};
use support::segment::{ACK, SYN, Segment, too_big};
use support::with_net;

/// Bytes of the packet in question: an IP header and the ports, as RFC 792 asks; all of it.
const QUOTED: [usize; 3] = [28, 48, 1_000];

/// A router between here and the client, or the backend.
fn router(case: &Case) -> IpAddr {
    ip(if case.vip.is_ipv4() {
        "198.51.100.1"
    } else {
        "2001:db8:1::1"
    })
}

fn send(balanced: &Balanced, frame: &[u8]) -> (Verdict, Vec<u8>) {
    balanced.bench.run(Direction::Ingress, frame)
}

/// Quotations with the ports: those of IPv6 begin 20 bytes later.
fn lengths(case: &Case) -> [usize; 3] {
    QUOTED.map(|length| length + if case.vip.is_ipv4() { 0 } else { 20 })
}

fn each(check: impl Fn(&Case, &Balanced) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            let balanced = case.bench();
            balanced.ingress(&case.asks(SYN));
            check(&case, &balanced);
        }
    });
}

#[test]
fn an_error_about_an_answer_goes_to_the_backend_and_speaks_of_what_it_sent() {
    each(|case, balanced| {
        let vip = case.vip.ip();
        let answer = case.answers(ACK);
        // On its way to the client, some hops later.
        let seen = Segment {
            hops: 60,
            ..case.answered(&answer)
        };
        let sent = Segment { hops: 60, ..answer };
        for length in lengths(case) {
            let error = too_big(router(case), vip, 50, &seen, length);
            let expected = match case.how {
                Forward::Nat => too_big(vip, case.backend.ip(), 49, &sent, length),
                Forward::Local => too_big(router(case), case.backend.ip(), 50, &sent, length),
                Forward::Keep => too_big(router(case), case.backend.ip(), 49, &sent, length),
                Forward::Dsr => error.clone(),
            };
            let (verdict, out) = send(balanced, &error);
            assert_eq!((verdict, out), (case.goes(), expected), "{case:?} {length}");
        }
    });
}

#[test]
fn an_error_about_a_question_goes_to_the_client_and_speaks_of_what_it_sent() {
    each(|case, balanced| {
        if case.how != Forward::Nat {
            return;
        }
        let vip = case.vip.ip();
        let question = case.asks(ACK);
        let seen = Segment {
            hops: 60,
            ..case.asked(&question)
        };
        let sent = Segment {
            hops: 60,
            ..question
        };
        for length in lengths(case) {
            let error = too_big(router(case), vip, 50, &seen, length);
            let expected = too_big(vip, case.client.ip(), 49, &sent, length);
            let (verdict, out) = send(balanced, &error);
            assert_eq!(
                (verdict, out),
                (Verdict::Answer, expected),
                "{case:?} {length}"
            );
        }
    });
}

#[test]
fn an_error_about_no_flow_is_for_the_host_itself() {
    each(|case, balanced| {
        let mut other = case.answered(&case.answers(ACK));
        other.destination.set_port(1);
        let error = too_big(router(case), case.vip.ip(), 50, &other, 1_000);
        assert_eq!(send(balanced, &error), (Verdict::Pass, error), "{case:?}");
    });
}

#[test]
fn an_error_whose_last_hop_this_is_goes_no_further() {
    each(|case, balanced| {
        if !case.how.is_hop() {
            return;
        }
        let seen = case.answered(&case.answers(ACK));
        let error = too_big(router(case), case.vip.ip(), 1, &seen, 1_000);
        assert_eq!(send(balanced, &error), (Verdict::Drop, error), "{case:?}");
    });
}

#[test]
fn an_error_cut_off_anywhere_is_never_rewritten_without_its_ports() {
    each(|case, balanced| {
        let seen = case.answered(&case.answers(ACK));
        let error = too_big(router(case), case.vip.ip(), 50, &seen, 1_000);
        let (ip, quoted) = if case.vip.is_ipv4() {
            (20, 20)
        } else {
            (40, 40)
        };
        for length in 14 + ip..14 + ip + 8 + quoted + 4 {
            let frame = &error[..length];
            let (verdict, out) = send(balanced, frame);
            assert_ne!(verdict, Verdict::Answer, "{case:?} {length}");
            assert_eq!(out, frame, "{case:?} {length}");
        }
    });
}

#[test]
fn a_ping_is_answered_by_the_host_itself() {
    each(|case, balanced| {
        let seen = case.answered(&case.answers(ACK));
        let mut ping = too_big(router(case), case.vip.ip(), 50, &seen, 1_000);
        ping[if case.vip.is_ipv4() { 34 } else { 54 }] = if case.vip.is_ipv4() { 8 } else { 128 };
        assert_eq!(send(balanced, &ping), (Verdict::Pass, ping), "{case:?}");
    });
}
