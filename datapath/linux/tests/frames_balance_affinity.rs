//! Services that keep clients with their backends, while tables change.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use support::balance::{BACKEND, Balanced, Case, Forward, SERVICE, TABLE, at, ip, sample, table};
use support::bench::Verdict;
use support::segment::{ACK, SYN, Segment};
use support::{SECOND, with_net};
use vipd_datapath::boottime_ns;
use vipd_datapath_common::balance::{
    Affinity, AffinityKey, Member, Reason, Service, ServiceKey, flow_flags, service_flags,
};
use vipd_datapath_common::{flags, max_entries};

const BACKENDS: u32 = 8;
/// For how long clients are kept.
const TIMEOUT_MS: u32 = 60_000;
const TIMEOUT: u64 = TIMEOUT_MS as u64 * 1_000_000;
/// So many clients: that two tables agree on all of them happens once in 10^14 runs.
const CLIENTS: u16 = 16;

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move {
        for case in Case::all() {
            check(&case);
        }
    });
}

/// A bench whose service has this many backends, in the table by turns, and keeps clients.
fn sticky(case: &Case) -> Balanced {
    let mut balanced = case.bench();
    for number in 1..BACKENDS {
        balanced.add_backend(BACKEND + number, case.backend, case.how == Forward::Local);
    }
    balanced.flag(service_flags::BY_CLIENT);
    let all: Vec<u32> = (0..BACKENDS).collect();
    lead(&mut balanced, TABLE, &all, 0);
    balanced
}

fn services(balanced: &Balanced) -> Vec<(ServiceKey, Service)> {
    balanced.services.iter().map(Result::unwrap).collect()
}

/// Leads all services to these backends by a table with this number, from slot to slot in turn.
fn lead(balanced: &mut Balanced, number: u32, backends: &[u32], first: usize) {
    for backend in backends {
        let backend = BACKEND + backend;
        let member = Member {
            table: number,
            backend,
        };
        balanced.members.insert(member, 1, 0).unwrap();
    }
    let slots = table(|slot| BACKEND + backends[(slot + first) % backends.len()]);
    balanced.tables.insert(number, slots, 0).unwrap();
    for (key, service) in services(balanced) {
        let service = Service {
            table: number,
            timeout: TIMEOUT_MS,
            ..service
        };
        balanced.services.insert(key, service, 0).unwrap();
    }
}

fn client(case: &Case, last: u16) -> String {
    if case.vip.is_ipv4() {
        format!("192.0.2.{last}")
    } else {
        format!("2001:db8::{last}")
    }
}

/// The first packet of a client's connection.
fn asks(case: &Case, client: &str, port: u16) -> Segment {
    Segment {
        source: at(client, port),
        ..case.asks(SYN)
    }
}

/// The backend that a new connection of a client gets.
fn gets(balanced: &Balanced, case: &Case, last: u16, port: u16) -> u32 {
    let packet = asks(case, &client(case, last), port);
    assert_eq!(balanced.ingress(&packet).0, case.goes(), "{case:?}");
    balanced.flow(&packet).unwrap().backend - BACKEND
}

fn all_get(balanced: &Balanced, case: &Case, port: u16) -> Vec<u32> {
    (1..=CLIENTS)
        .map(|last| gets(balanced, case, last, port))
        .collect()
}

fn record_of(case: &Case, last: u16, service: u32) -> AffinityKey {
    AffinityKey {
        client: ip(&client(case, last)).into(),
        service,
    }
}

fn known(balanced: &Balanced, case: &Case, last: u16) -> Option<Affinity> {
    balanced
        .affinity
        .get(&record_of(case, last, SERVICE), 0)
        .ok()
}

/// As if the newest connection of a client had begun so long ago.
fn age(balanced: &mut Balanced, case: &Case, last: u16, ns: u64) {
    let known = known(balanced, case, last).unwrap();
    let older = Affinity {
        seen: boottime_ns().wrapping_sub(ns),
        ..known
    };
    let key = record_of(case, last, SERVICE);
    balanced.affinity.insert(key, older, 0).unwrap();
}

#[test]
fn a_client_goes_to_the_backend_where_it_was_however_the_table_has_changed() {
    each(|case| {
        let mut balanced = sticky(case);
        let before = all_get(&balanced, case, 50_000);
        assert!(
            before.iter().collect::<BTreeSet<_>>().len() > 3,
            "{before:?}"
        );
        let all: Vec<u32> = (0..BACKENDS).collect();
        lead(&mut balanced, TABLE + 1, &all, 3);
        assert_eq!(all_get(&balanced, case, 50_001), before, "{case:?}");
        // One that comes, and takes nearly all.
        lead(&mut balanced, TABLE + 2, &all, 5);
        let mostly = table(|slot| BACKEND + if slot % 100 == 0 { 1 } else { 0 });
        balanced.tables.insert(TABLE + 2, mostly, 0).unwrap();
        assert_eq!(all_get(&balanced, case, 50_002), before, "{case:?}");
        let new: BTreeSet<_> = (100..120)
            .map(|last| gets(&balanced, case, last, 50_000))
            .collect();
        assert!(
            new.iter().all(|got| *got < 2),
            "{new:?}: by the table of now"
        );

        // Without affinity they go where that says, too.
        for (key, service) in services(&balanced) {
            let flags = service.flags & !service_flags::BY_CLIENT;
            let service = Service { flags, ..service };
            balanced.services.insert(key, service, 0).unwrap();
        }
        let free = all_get(&balanced, case, 50_003);
        assert!(free.iter().all(|got| *got < 2), "{case:?}: {free:?}");
    });
}

#[test]
fn a_client_leaves_a_backend_that_takes_no_new_connections_and_stays_where_it_went() {
    each(|case| {
        let mut balanced = sticky(case);
        let before = all_get(&balanced, case, 50_000);
        // It drains, or is down: it is known, and no member of the table.
        let gone = before[0];
        let others: Vec<u32> = (0..BACKENDS).filter(|it| *it != gone).collect();
        lead(&mut balanced, TABLE + 1, &others, 0);
        let then = all_get(&balanced, case, 50_001);
        assert!(then.iter().all(|got| *got != gone), "{case:?} {then:?}");
        for (before, then) in before.iter().zip(&then) {
            assert!(before == then || *before == gone, "{case:?}");
        }
        let all: Vec<u32> = (0..BACKENDS).collect();
        lead(&mut balanced, TABLE, &all, 0);
        assert_eq!(
            all_get(&balanced, case, 50_002),
            then,
            "it is back: {case:?}"
        );

        // Taken out altogether.
        let number = BACKEND + then[0];
        balanced.backends.remove(&number).unwrap();
        let others: Vec<u32> = (0..BACKENDS).filter(|it| *it != then[0]).collect();
        lead(&mut balanced, TABLE + 2, &others, 0);
        assert_ne!(gets(&balanced, case, 1, 50_003), then[0], "{case:?}");
    });
}

#[test]
fn a_client_is_kept_for_its_time_from_its_newest_connection_on() {
    each(|case| {
        let mut balanced = sticky(case);
        let before = all_get(&balanced, case, 50_000);
        let all: Vec<u32> = (0..BACKENDS).collect();
        lead(&mut balanced, TABLE + 1, &all, 3);
        for last in 1..=CLIENTS {
            age(&mut balanced, case, last, TIMEOUT - 10 * SECOND);
        }
        assert_eq!(all_get(&balanced, case, 50_001), before, "{case:?}");
        for last in 1..=CLIENTS {
            let seen = known(&balanced, case, last).unwrap().seen;
            assert!(boottime_ns() - seen < 10 * SECOND, "it counts from now on");
        }
        // One that has not come back for so long, though it was told before this host began to count.
        for last in 1..=CLIENTS {
            age(&mut balanced, case, last, TIMEOUT);
        }
        let by_table = all_get(&balanced, case, 50_002);
        assert_ne!(by_table, before, "{case:?}");
        lead(&mut balanced, TABLE + 2, &all, 5);
        assert_eq!(all_get(&balanced, case, 50_003), by_table, "kept there now");
    });
}

#[test]
fn a_connection_that_another_node_has_opened_goes_where_its_client_was_last_however_long_ago() {
    each(|case| {
        if !case.is_tcp() {
            return; // Nobody can tell whether a datagram is the first one.
        }
        let mut balanced = sticky(case);
        let before = all_get(&balanced, case, 50_000);
        let all: Vec<u32> = (0..BACKENDS).collect();
        lead(&mut balanced, TABLE + 1, &all, 3);
        let get = |balanced: &mut Balanced, flags, port| -> Vec<u32> {
            let clients = 1..=CLIENTS;
            let got = clients.map(|last| {
                age(balanced, case, last, 2 * TIMEOUT);
                let packet = Segment {
                    source: at(&client(case, last), port),
                    ..case.asks(flags)
                };
                assert_eq!(balanced.ingress(&packet).0, case.goes(), "{case:?}");
                balanced.flow(&packet).unwrap().backend - BACKEND
            });
            got.collect()
        };
        assert_eq!(get(&mut balanced, ACK, 50_001), before, "{case:?}");
        let begun = get(&mut balanced, SYN, 50_002);
        assert_ne!(begun, before, "{case:?}: new ones");
    });
}

/// Another service: one that leads nowhere but to this backend.
fn add_service(balanced: &mut Balanced, case: &Case, vip: SocketAddr, id: u32, backend: u32) {
    balanced.bench.manage(
        &vip.ip().to_string(),
        flags::OPEN | flags::LOCAL | flags::BALANCED,
    );
    let key = ServiceKey {
        address: vip.ip().into(),
        port: vip.port().to_be_bytes(),
        protocol: case.transport.number(),
        reserved: 0,
    };
    let [(_, first)] = services(balanced)[..] else {
        panic!("there is one already");
    };
    let number = TABLE + id;
    balanced
        .tables
        .insert(number, table(|_| BACKEND + backend), 0)
        .unwrap();
    let member = Member {
        table: number,
        backend: BACKEND + backend,
    };
    balanced.members.insert(member, 1, 0).unwrap();
    let service = Service {
        table: number,
        id,
        ..first
    };
    balanced.services.insert(key, service, 0).unwrap();
}

#[test]
fn each_service_and_each_vip_keeps_a_client_by_itself() {
    each(|case| {
        let other_vip = if case.vip.is_ipv4() {
            "10.9.0.101"
        } else {
            "fd09::101"
        };
        for other in [SocketAddr::new(case.vip.ip(), 81), at(other_vip, 80)] {
            let mut balanced = sticky(case);
            let there = gets(&balanced, case, 1, 50_000);
            let elsewhere = (there + 1) % BACKENDS;
            let (id, own) = (SERVICE + 1, client(case, 1));
            add_service(&mut balanced, case, other, id, elsewhere);
            let to_other = |port| Segment {
                destination: other,
                ..asks(case, &own, port)
            };
            let packet = to_other(50_001);
            balanced.ingress(&packet);
            let flow = balanced.flow(&packet).unwrap();
            assert_eq!(flow.backend, BACKEND + elsewhere, "{case:?} {other}");
            assert_eq!(gets(&balanced, case, 1, 50_002), there, "{case:?} {other}");
            let of = |service| {
                balanced
                    .affinity
                    .get(&record_of(case, 1, service), 0)
                    .unwrap()
            };
            assert_eq!(of(id).backend, BACKEND + elsewhere);
            assert_eq!(of(SERVICE).backend, BACKEND + there);
        }
    });
}

#[test]
fn a_connection_that_is_refused_keeps_nobody() {
    each(|case| {
        let mut balanced = sticky(case);
        balanced.flag(service_flags::RANGES);
        assert_eq!(
            balanced.ingress(&asks(case, &client(case, 1), 50_000)).0,
            Verdict::Drop
        );
        assert_eq!(known(&balanced, case, 1), None, "{case:?}: forbidden");

        // One flow a second and CPU: whoever it was, most of these are refused, or pass unrecorded (dsr).
        let mut balanced = sticky(case);
        balanced.node(case.how.of_node(), 1);
        for last in 1..=CLIENTS {
            balanced.ingress(&asks(case, &client(case, last), 50_000));
        }
        let kept = (1..=CLIENTS).filter(|last| known(&balanced, case, *last).is_some());
        let flows = (1..=CLIENTS).filter(|last| {
            balanced
                .flow(&asks(case, &client(case, *last), 50_000))
                .is_some()
        });
        let (kept, flows) = (kept.count(), flows.count());
        assert_eq!(kept, flows, "{case:?}");
        assert!(flows < usize::from(CLIENTS), "{case:?}");
        if case.how != Forward::Dsr {
            assert!(balanced.dropped(Reason::Flood) > 0);
        }
    });
}

#[test]
fn each_flow_of_a_kept_client_is_told_and_no_other_than_before() {
    each(|case| {
        let mut balanced = sticky(case);
        let there = gets(&balanced, case, 1, 50_000);
        let records = balanced.records();
        assert_eq!(records.len(), 1, "{case:?}");
        assert!(records[0].flow.has(flow_flags::STICKY), "{case:?}");
        assert_eq!(records[0].flow.backend, BACKEND + there);
        assert_eq!(records[0].flow.service, SERVICE);

        let mut balanced = case.bench();
        balanced.ingress(&case.asks(SYN));
        let records = balanced.records();
        let told = matches!(case.how, Forward::Nat | Forward::Keep);
        assert_eq!(records.len(), usize::from(told), "{case:?}");
        assert!(records.iter().all(|it| !it.flow.has(flow_flags::STICKY)));
    });
}

#[test]
fn a_flood_of_strangers_takes_the_room_of_those_who_do_not_come_back() {
    const STRANGERS: u32 = 2 * max_entries::AFFINITY as u32;
    with_net(|_| async {
        let tcp = Case::all()
            .into_iter()
            .filter(|case| case.how == Forward::Dsr && case.is_tcp());
        let case = sample(tcp.collect::<Vec<_>>()).remove(0);
        let mut balanced = sticky(&case);
        let all: Vec<u32> = (0..BACKENDS).collect();
        let before = all_get(&balanced, &case, 50_000);
        lead(&mut balanced, TABLE + 1, &all, 3);
        let (half, mut port) = (CLIENTS / 2, 50_001);
        for stranger in 0..STRANGERS {
            let [a, b, c, d] = (0x0b00_0000 + stranger).to_be_bytes();
            balanced.ingress(&asks(&case, &format!("{a}.{b}.{c}.{d}"), 40_000));
            if stranger % 2_000 == 0 {
                for last in 1..=half {
                    let there = before[usize::from(last) - 1];
                    assert_eq!(gets(&balanced, &case, last, port), there, "{stranger}");
                }
                port += 1;
            }
        }
        let kept = balanced.affinity.keys().count();
        assert!(kept <= max_entries::AFFINITY, "{kept}");
        let left = (half + 1..=CLIENTS).filter(|last| known(&balanced, &case, *last).is_some());
        assert_eq!(left.count(), 0, "who did not come back");
        // By the table of now.
        let now: Vec<u32> = (half + 1..=CLIENTS)
            .map(|last| gets(&balanced, &case, last, port))
            .collect();
        assert_ne!(now, before[usize::from(half)..]);
    });
}
