//! ARP, frame by frame.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::bench::{Bench, Direction, Verdict};
use support::packet::{BROADCAST, arp, ethernet, tagged, who_has};
use support::{MAC_CLIENT, MAC_HOST, with_net};
use vipd_datapath_common::{Counter, flags};

const VIP: &str = "10.9.0.100";
const CLIENT: &str = "10.9.0.2";
const OPEN: u32 = flags::OPEN | flags::LOCAL;

#[test]
fn a_request_is_answered_with_the_mac_of_the_interface() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, OPEN);
        for to in [BROADCAST, MAC_HOST] {
            let (verdict, reply) = bench.ingress(&arp(1, to, MAC_CLIENT, CLIENT, VIP));
            assert_eq!(verdict, Verdict::Answer);
            let packet = [
                &[0, 1, 8, 0, 6, 4, 0, 2][..],
                &MAC_HOST,
                &[10, 9, 0, 100],
                &MAC_CLIENT,
                &[10, 9, 0, 2],
            ];
            let expected = ethernet(MAC_CLIENT, MAC_HOST, 0x0806, &packet.concat());
            assert_eq!(reply, expected);
        }
        assert_eq!(bench.count(VIP, Counter::ArpAnswered), 2);
    });
}

#[test]
fn a_padded_request_is_answered_and_a_probe_is_answered_to_defend() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, OPEN);
        let padded = [who_has(VIP, CLIENT), vec![0; 18]].concat();
        assert_eq!(bench.ingress(&padded).0, Verdict::Answer);
        let (verdict, reply) = bench.ingress(&who_has(VIP, "0.0.0.0"));
        assert_eq!(verdict, Verdict::Answer);
        assert_eq!(reply[28..32], [10, 9, 0, 100]);
        assert_eq!(reply[38..42], [0, 0, 0, 0]);
    });
}

#[test]
fn a_request_is_dropped_while_the_address_is_shut_for_any_reason() {
    with_net(|_| async {
        let mut bench = Bench::new();
        let request = who_has(VIP, CLIENT);
        bench.manage(VIP, flags::LOCAL);
        assert_eq!(
            bench.verdict(Direction::Ingress, &request),
            Verdict::Drop,
            "gate"
        );
        bench.manage_on(VIP, OPEN, 999);
        assert_eq!(
            bench.verdict(Direction::Ingress, &request),
            Verdict::Drop,
            "interface"
        );
        bench.manage(VIP, OPEN);
        bench.deadline(vipd_datapath::boottime_ns());
        assert_eq!(
            bench.verdict(Direction::Ingress, &request),
            Verdict::Drop,
            "deadline"
        );
        bench.deadline(0);
        assert_eq!(
            bench.verdict(Direction::Ingress, &request),
            Verdict::Drop,
            "no lease"
        );
        assert_eq!(bench.count(VIP, Counter::Unanswered), 2);
        assert_eq!(bench.count(VIP, Counter::ArpAnswered), 0);
    });
}

#[test]
fn what_is_none_of_our_business_passes() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, OPEN);
        let other_host = arp(1, [2, 0, 0, 0, 0, 9], MAC_CLIENT, CLIENT, VIP);
        let mut token_ring = who_has(VIP, CLIENT);
        token_ring[15] = 6;
        for (why, frame) in [
            ("another address", who_has("10.9.0.101", CLIENT)),
            ("a reply", arp(2, MAC_HOST, MAC_CLIENT, CLIENT, VIP)),
            ("to another host", other_host),
            ("not Ethernet and IPv4", token_ring),
            ("tagged", tagged(&who_has(VIP, CLIENT), 100)),
        ] {
            assert_eq!(
                bench.verdict(Direction::Ingress, &frame),
                Verdict::Pass,
                "{why}"
            );
        }
    });
}

#[test]
fn a_request_from_a_group_address_gets_no_answer() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, OPEN);
        let request = arp(1, BROADCAST, BROADCAST, CLIENT, VIP);
        assert_eq!(bench.verdict(Direction::Ingress, &request), Verdict::Drop);
    });
}

#[test]
fn a_request_cut_off_at_any_byte_is_never_answered() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, OPEN);
        let request = who_has(VIP, CLIENT);
        for length in 14..request.len() {
            let verdict = bench.verdict(Direction::Ingress, &request[..length]);
            assert_eq!(verdict, Verdict::Pass, "{length} bytes");
            let verdict = bench.verdict(Direction::Egress, &request[..length]);
            assert_eq!(verdict, Verdict::Pass, "{length} bytes");
        }
    });
}

#[test]
fn the_claim_of_another_host_is_reported_at_a_bounded_rate_and_not_answered() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, OPEN);
        let theirs = [2, 0, 0, 0, 0, 9];
        for operation in [1, 2, 1, 2] {
            let claim = arp(operation, BROADCAST, theirs, VIP, VIP);
            assert_ne!(bench.verdict(Direction::Ingress, &claim), Verdict::Answer);
        }
        assert_eq!(bench.count(VIP, Counter::Conflict), 4);
        // One for each CPU that ran a frame within 100 ms.
        let events = bench.conflicts();
        assert!(
            (1..=aya::util::nr_cpus().unwrap()).contains(&events.len()),
            "{events:?}"
        );
        assert_eq!(events[0].mac, theirs);
        assert_eq!(events[0].ifindex, bench.ifindex);
        assert_eq!(std::net::IpAddr::from(events[0].address).to_string(), VIP);
    });
}

#[test]
fn a_standby_takes_note_of_the_holder_without_a_conflict() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP, 0);
        let announcement = arp(1, BROADCAST, MAC_CLIENT, VIP, VIP);
        assert_eq!(
            bench.verdict(Direction::Ingress, &announcement),
            Verdict::Pass
        );
        assert_eq!(bench.count(VIP, Counter::Conflict), 0);
    });
}

#[test]
fn what_leaves_with_the_address_as_sender_needs_an_open_gate() {
    with_net(|_| async {
        let mut bench = Bench::new();
        let frames = [
            arp(1, BROADCAST, MAC_HOST, VIP, VIP),
            arp(2, BROADCAST, MAC_HOST, VIP, VIP),
            arp(1, BROADCAST, MAC_HOST, VIP, CLIENT),
            arp(2, MAC_CLIENT, MAC_HOST, VIP, CLIENT),
        ];
        for (open, verdict) in [(flags::LOCAL, Verdict::Drop), (OPEN, Verdict::Pass)] {
            bench.manage(VIP, open);
            for direction in [Direction::Egress, Direction::Forward] {
                for frame in &frames {
                    assert_eq!(bench.verdict(direction, frame), verdict);
                }
            }
        }
        assert_eq!(bench.count(VIP, Counter::AnnouncementPassed), 4);
        // A standby that asks for the address, as any client does.
        bench.manage(VIP, 0);
        let ask = arp(1, BROADCAST, MAC_HOST, "10.9.0.1", VIP);
        assert_eq!(bench.verdict(Direction::Egress, &ask), Verdict::Pass);
    });
}
