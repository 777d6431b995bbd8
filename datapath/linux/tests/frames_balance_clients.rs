//! Services that look at who asks: affinity by client, and ranges of clients.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::BTreeSet;

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, TABLE, table};
use support::bench::Verdict;
use support::segment::{ACK, SYN, Segment};
use support::with_net;
use vipd_datapath_common::balance::{Reason, service_flags};

const BACKENDS: u32 = 8;

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            check(&case);
        }
    });
}

/// A packet of another client.
fn from(case: &Case, v4: &str, v6: &str, port: u16) -> Segment {
    let mut packet = case.asks(SYN);
    let client = if case.vip.is_ipv4() { v4 } else { v6 };
    packet.source = support::balance::at(client, port);
    packet
}

/// The backends that 32 flows of a client get.
fn chosen(balanced: &Balanced, case: &Case, last: u16) -> BTreeSet<u32> {
    let (v4, v6) = (format!("192.0.2.{last}"), format!("2001:db8::{last}"));
    let flow = |port| {
        let packet = from(case, &v4, &v6, port);
        balanced.ingress(&packet);
        balanced.flow(&packet).unwrap().backend
    };
    (50_000..50_032).map(flow).collect()
}

#[test]
fn all_flows_of_a_client_go_to_one_backend_where_the_service_says_so() {
    each(|case| {
        for by_client in [false, true] {
            let mut balanced = case.bench();
            for number in 1..BACKENDS {
                balanced.add_backend(BACKEND + number, case.backend, case.how == Forward::Local);
            }
            let spread = table(|slot| BACKEND + slot as u32 % BACKENDS);
            balanced.tables.insert(TABLE, spread, 0).unwrap();
            if by_client {
                balanced.flag(service_flags::BY_CLIENT);
            }
            let each: Vec<_> = (1..=16).map(|last| chosen(&balanced, case, last)).collect();
            let all: BTreeSet<u32> = each.iter().flatten().copied().collect();
            assert!(all.len() > 4, "{case:?}: clients spread over {all:?}");
            if by_client {
                assert!(
                    each.iter().all(|chosen| chosen.len() == 1),
                    "{case:?} {each:?}"
                );
            } else {
                assert!(
                    each.iter().all(|chosen| chosen.len() > 4),
                    "{case:?} {each:?}"
                );
            }
        }
    });
}

#[test]
fn only_clients_in_a_range_begin_flows_where_the_service_has_ranges() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.flag(service_flags::RANGES);
        let refused = case.asks(SYN);
        assert_eq!(
            balanced.ingress(&refused),
            (Verdict::Drop, refused.frame()),
            "none at all"
        );
        // Of another service.
        balanced.allow(SERVICE + 1, "0.0.0.0", 0);
        balanced.allow(SERVICE + 1, "::", 0);
        assert_eq!(balanced.ingress(&refused).0, Verdict::Drop, "{case:?}");
        balanced.allow(SERVICE, "198.51.100.64", 26);
        balanced.allow(SERVICE, "2001:db8:7::", 48);
        for (v4, v6, allowed) in [
            ("198.51.100.64", "2001:db8:7::", true),
            (
                "198.51.100.127",
                "2001:db8:7:ffff:ffff:ffff:ffff:ffff",
                true,
            ),
            (
                "198.51.100.63",
                "2001:db8:6:ffff:ffff:ffff:ffff:ffff",
                false,
            ),
            ("198.51.100.128", "2001:db8:8::", false),
        ] {
            let packet = from(case, v4, v6, 40_000);
            let verdict = if allowed { case.goes() } else { Verdict::Drop };
            assert_eq!(balanced.ingress(&packet).0, verdict, "{case:?} {v4} {v6}");
            assert_eq!(
                balanced.flow(&packet).is_some(),
                allowed,
                "{case:?} {v4} {v6}"
            );
        }
        assert_eq!(balanced.tally(SERVICE, 0).dropped(Reason::Forbidden), 4);
    });
}

#[test]
fn a_flow_that_has_begun_goes_on_when_ranges_are_drawn_around_it() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        balanced.flag(service_flags::RANGES);
        assert_eq!(balanced.ingress(&case.asks(ACK)).0, case.goes(), "{case:?}");
    });
}
