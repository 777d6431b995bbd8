//! Planned moves, frame by frame: what the silent holder hands on, and what the next one takes.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::time::Duration;

use support::bench::{Bench, Direction, Verdict};
use support::packet::{
    BROADCAST, SLLAO, advertisement, arp, ipv4, ipv6, solicitation, tagged, who_has,
};
use support::{MAC_CLIENT, MAC_HOST, SECOND, VIP4, VIP6, with_net};
use vipd_datapath::{boottime_ns, handing};
use vipd_datapath_common::frame::Arp;
use vipd_datapath_common::{Counter, flags};

/// The other node of the move.
const MAC_PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A packet to and one from the VIP, for both families.
fn cases() -> [(&'static str, Vec<u8>, Vec<u8>); 2] {
    let udp = |source, destination| ipv6(source, destination, 17, 64, &[0; 8]);
    [
        (VIP4, ipv4("10.9.0.2", VIP4), ipv4(VIP4, "10.9.0.2")),
        (VIP6, udp("fd09::2", VIP6), udp(VIP6, "fd09::2")),
    ]
}

/// The frame as `source` sends it.
fn from_mac(frame: &[u8], source: [u8; 6]) -> Vec<u8> {
    [&frame[..6], &source, &frame[12..]].concat()
}

/// The frame with another TTL or hop limit, and for IPv4 its checksum.
fn with_hops(frame: &[u8], hops: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[14] >> 4 == 4 {
        frame[22] = hops;
        frame[24..26].fill(0);
        let sum = !ones_complement(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        frame[21] = hops;
    }
    frame
}

fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u16::from_be_bytes([w[0], w[1]]));
    let sum: u32 = words.map(u32::from).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// One who is the holder still.
const HOLDER: u32 = flags::HAND | flags::LEASED;

fn hand(bench: &mut Bench, vip: &str, until: u64) {
    bench.manage_with(vip, flags::HAND, MAC_PEER, until);
}

/// Hands a packet to the bench and sends another frame at once. A machine that is busy may take longer in between than
/// the next holder may speak: then the same again.
fn passes_right_after(bench: &Bench, handed: &[u8], direction: Direction, frame: &[u8]) -> bool {
    (0..50).any(|_| {
        bench.verdict(Direction::Ingress, handed) == Verdict::Pass
            && bench.verdict(direction, frame) == Verdict::Pass
    })
}

fn take(bench: &mut Bench, vip: &str) {
    bench.manage_with(vip, flags::TAKE | flags::LOCAL, MAC_PEER, 0);
}

#[test]
fn a_holder_that_leaves_hands_packets_on_to_the_next_one_and_counts_a_hop() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, _) in cases() {
            hand(&mut bench, vip, u64::MAX);
            let to = with_hops(&to, 64);
            let (verdict, out) = bench.run(Direction::Ingress, &to);
            assert_eq!(verdict, Verdict::Answer, "{vip}");
            let expected = [&MAC_PEER[..], &MAC_HOST, &with_hops(&to, 63)[12..]].concat();
            assert_eq!(out, expected, "{vip}");
            assert_eq!(bench.count(vip, Counter::HandedOn), 1);
        }
    });
}

#[test]
fn a_holder_that_leaves_neither_answers_nor_speaks() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, _, from) in cases() {
            bench.manage_with(vip, HOLDER | flags::LOCAL, MAC_PEER, u64::MAX);
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
        }
        let asked = who_has(VIP4, "10.9.0.2");
        assert_eq!(bench.verdict(Direction::Ingress, &asked), Verdict::Drop);
        let announced = arp(Arp::REQUEST, BROADCAST, MAC_HOST, VIP4, VIP4);
        assert_eq!(bench.verdict(Direction::Egress, &announced), Verdict::Drop);
        let asked = ipv6("fd09::2", VIP6, 58, 255, &solicitation(VIP6, &SLLAO));
        assert_eq!(bench.verdict(Direction::Ingress, &asked), Verdict::Drop);
    });
}

#[test]
fn a_holder_hands_on_only_before_its_deadline_and_for_its_time() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, _) in cases() {
            bench.manage_with(vip, HOLDER | flags::LOCAL, MAC_PEER, u64::MAX);
            bench.deadline(boottime_ns() + 60 * SECOND);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Answer);
            bench.deadline(boottime_ns());
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
            bench.deadline(boottime_ns() + 60 * SECOND);
            bench.manage_with(vip, HOLDER | flags::LOCAL, MAC_PEER, boottime_ns());
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
        }
    });
}

#[test]
fn a_former_holder_hands_on_without_a_lease_until_its_time_is_over() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.deadline(0);
        for (vip, to, _) in cases() {
            hand(&mut bench, vip, boottime_ns() + 60 * SECOND);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Answer);
            hand(&mut bench, vip, boottime_ns());
            // As any standby that is a router.
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Pass);
        }
    });
}

#[test]
fn what_comes_from_the_next_holder_or_has_no_hop_left_or_is_for_everybody_is_not_handed_on() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, _) in cases() {
            bench.manage_with(vip, HOLDER | flags::LOCAL, MAC_PEER, u64::MAX);
            let back = from_mac(&to, MAC_PEER);
            let to_all = [&BROADCAST[..], &to[6..]].concat();
            for frame in [back, with_hops(&to, 1), with_hops(&to, 0), to_all] {
                assert_eq!(bench.verdict(Direction::Ingress, &frame), Verdict::Drop);
            }
            let elsewhere = tagged(&to, 100);
            assert_eq!(bench.verdict(Direction::Ingress, &elsewhere), Verdict::Pass);
            assert_eq!(bench.count(vip, Counter::HandedOn), 0);
        }
    });
}

#[test]
fn a_redirected_packet_leaves_though_the_address_is_shut() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, _) in cases() {
            hand(&mut bench, vip, u64::MAX);
            assert_eq!(bench.verdict(Direction::Forward, &to), Verdict::Pass);
        }
    });
}

#[test]
fn the_next_holder_neither_takes_nor_speaks_before_the_holder_has_handed_a_packet_to_it() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            take(&mut bench, vip);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
            assert_eq!(bench.count(vip, Counter::Taken), 0);
        }
        let asks = arp(Arp::REQUEST, BROADCAST, MAC_HOST, VIP4, "10.9.0.2");
        assert_eq!(bench.verdict(Direction::Egress, &asks), Verdict::Drop);
    });
}

#[test]
fn the_next_holder_serves_what_is_handed_to_it_and_falls_silent_after_a_moment() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            take(&mut bench, vip);
            let handed = from_mac(&to, MAC_PEER);
            assert!(passes_right_after(
                &bench,
                &handed,
                Direction::Egress,
                &from
            ));
            // The client has learned where this node is: nothing is lost on its way to become the holder.
            assert!(passes_right_after(&bench, &handed, Direction::Ingress, &to));
            assert_ne!(bench.count(vip, Counter::Taken), 0);
            // The first answer may be how the client learned it, so nothing more is handed; and the release takes a while.
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Pass);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Pass);
            std::thread::sleep(Duration::from_nanos(handing::SERVES_NS));
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
            assert_eq!(bench.verdict(Direction::Ingress, &to), Verdict::Drop);
        }
    });
}

#[test]
fn the_next_holder_may_ask_where_its_answers_go_but_answers_and_announces_nothing() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, _) in cases() {
            take(&mut bench, vip);
            bench.verdict(Direction::Ingress, &from_mac(&to, MAC_PEER));
        }
        let [(_, to4, _), (_, to6, _)] = cases();
        let (to4, to6) = (from_mac(&to4, MAC_PEER), from_mac(&to6, MAC_PEER));
        let asked = who_has(VIP4, "10.9.0.2");
        assert_eq!(bench.verdict(Direction::Ingress, &asked), Verdict::Drop);
        let asked = ipv6("fd09::2", VIP6, 58, 255, &solicitation(VIP6, &SLLAO));
        assert_eq!(bench.verdict(Direction::Ingress, &asked), Verdict::Drop);
        let asks = arp(Arp::REQUEST, BROADCAST, MAC_HOST, VIP4, "10.9.0.2");
        assert!(passes_right_after(&bench, &to4, Direction::Egress, &asks));
        let asks = solicitation("fd09::2", &[]);
        let asks = ipv6(VIP6, "ff02::1:ff00:2", 58, 255, &asks);
        assert!(passes_right_after(&bench, &to6, Direction::Egress, &asks));
        for operation in [Arp::REQUEST, Arp::REPLY] {
            let announces = arp(operation, BROADCAST, MAC_HOST, VIP4, VIP4);
            assert_eq!(bench.verdict(Direction::Egress, &announces), Verdict::Drop);
        }
        let answers = arp(Arp::REPLY, MAC_CLIENT, MAC_HOST, VIP4, "10.9.0.2");
        assert_eq!(bench.verdict(Direction::Egress, &answers), Verdict::Drop);
        let announces = ipv6(VIP6, "ff02::1", 58, 255, &advertisement(VIP6, 0x20));
        assert_eq!(bench.verdict(Direction::Egress, &announces), Verdict::Drop);
    });
}

#[test]
fn the_deadline_of_the_next_holder_silences_it_like_any_other() {
    with_net(|_| async {
        let mut bench = Bench::new();
        for (vip, to, from) in cases() {
            take(&mut bench, vip);
            let handed = from_mac(&to, MAC_PEER);
            bench.deadline(boottime_ns() + 600 * SECOND);
            assert_eq!(bench.verdict(Direction::Ingress, &handed), Verdict::Pass);
            bench.deadline(boottime_ns());
            assert_eq!(bench.verdict(Direction::Egress, &from), Verdict::Drop);
            assert_eq!(bench.verdict(Direction::Ingress, &handed), Verdict::Drop);
        }
    });
}
