//! IPv4 and IPv6 packets to and from managed addresses: the fence, frame by frame.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::bench::{Bench, Direction, Verdict};
use support::packet::{ipv4, ipv6, tagged, who_has};
use support::{VIP4, VIP6, with_net};
use vipd_datapath_common::{Counter, flags};

/// A packet to and one from the VIP, for both families.
fn cases() -> [(&'static str, Vec<u8>, Vec<u8>); 2] {
    let udp = |source, destination| ipv6(source, destination, 17, 64, &[0; 8]);
    [
        (VIP4, ipv4("10.9.0.2", VIP4), ipv4(VIP4, "10.9.0.2")),
        (VIP6, udp("fd09::2", VIP6), udp(VIP6, "fd09::2")),
    ]
}

#[test]
fn packets_pass_both_ways_while_the_address_is_open() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            bench.manage(vip, flags::OPEN | flags::LOCAL);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Pass);
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Pass);
        }
    });
}

#[test]
fn packets_are_dropped_both_ways_while_it_is_shut_and_counted() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            bench.manage(vip, flags::LOCAL);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
            assert_eq!(bench.count(vip, Counter::DroppedIngress), 1);
            assert_eq!(bench.count(vip, Counter::DroppedEgress), 1);
        }
    });
}

#[test]
fn an_entry_that_is_open_for_another_address_is_shut() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for ((vip, to, from), other) in cases().into_iter().zip(["10.9.0.101", "fd09::101"]) {
            bench.manage(vip, flags::OPEN | flags::LOCAL);
            bench.misplace(vip, other);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
        }
        let (verdict, _) = bench.ingress(&who_has(VIP4, "10.9.0.2"));
        assert_eq!(verdict, Verdict::Drop, "nor is it answered for");
    });
}

#[test]
fn the_deadline_alone_shuts_an_open_address() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            bench.manage(vip, flags::OPEN | flags::LOCAL);
            bench.deadline(vipd_datapath::boottime_ns());
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
        }
    });
}

#[test]
fn a_router_that_is_a_mere_standby_forwards_to_and_from_the_holder() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            bench.manage(vip, 0);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Pass);
            assert_eq!(bench.verdict(Direction::Forward, &from), Verdict::Pass);
            // What an old connection of this host still sends does not pass.
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
        }
    });
}

#[test]
fn a_standby_is_a_client_of_the_holder_like_any_other() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            bench.manage(vip, 0);
            assert_eq!(bench.verdict(Direction::Egress, &to), Verdict::Pass);
            assert_eq!(bench.verdict(Direction::Ingress, &from), Verdict::Pass);
        }
    });
}

#[test]
fn other_addresses_and_other_networks_pass() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            assert_eq!(
                bench.verdict(Direction::Ingress, &to),
                Verdict::Pass,
                "unmanaged"
            );
            bench.manage(vip, flags::LOCAL);
            let to = tagged(&to, 100);
            assert_eq!(
                bench.verdict(Direction::Ingress, &to),
                Verdict::Pass,
                "tagged"
            );
            let from = tagged(&from, 100);
            assert_eq!(
                bench.verdict(Direction::Egress, &from),
                Verdict::Pass,
                "tagged"
            );
        }
    });
}

/// The test harness of the kernel itself refuses less than an IP header; shorter frames go over a
/// real wire in `wire_faults.rs`.
#[test]
fn a_packet_cut_off_behind_its_header_never_crashes_and_never_changes() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for ((vip, to, from), header) in cases().into_iter().zip([20, 40]) {
            bench.manage(vip, flags::LOCAL);
            for frame in [to, from] {
                for length in 14 + header..frame.len() {
                    bench.verdict(Direction::Ingress, &frame[..length]);
                    bench.verdict(Direction::Egress, &frame[..length]);
                }
            }
        }
    });
}
