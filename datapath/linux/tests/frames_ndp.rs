//! Neighbour discovery, frame by frame.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::bench::{Bench, Direction, Verdict};
use support::packet::{SLLAO, advertisement, icmpv6_checksum_holds, ipv6, solicitation, tagged};
use support::{MAC_CLIENT, MAC_HOST, VIP6, with_net};
use vipd_datapath_common::{Counter, flags};

const CLIENT: &str = "fd09::2";
const GROUP: &str = "ff02::1:ff00:100";
const OPEN: u32 = flags::OPEN | flags::LOCAL;

/// A solicitation as Linux sends it, to the multicast group.
fn who_has(source: &str, options: &[u8]) -> Vec<u8> {
    let mut frame = ipv6(source, GROUP, 58, 255, &solicitation(VIP6, options));
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 1, 0]);
    frame
}

/// The advertisement that must come back.
fn expect(reply: &[u8], flags: u8, to_mac: [u8; 6], to: &str) {
    assert_eq!(reply.len(), 86);
    assert!(icmpv6_checksum_holds(reply));
    assert_eq!(reply[..6], to_mac);
    assert_eq!(reply[6..12], MAC_HOST);
    assert_eq!(reply[21], 255, "hop limit");
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(reply[22..38], octets(VIP6), "source");
    assert_eq!(reply[38..54], octets(to), "destination");
    assert_eq!(reply[54..56], [136, 0]);
    assert_eq!(reply[58..62], [flags, 0, 0, 0]);
    assert_eq!(reply[62..78], octets(VIP6), "target");
    assert_eq!(reply[78..80], [2, 1]);
    assert_eq!(reply[80..86], MAC_HOST);
}

#[test]
fn a_solicitation_is_answered_with_or_without_its_link_layer_option() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        let both = [SLLAO, nonce].concat();
        for options in [&SLLAO[..], &[], &both] {
            let (verdict, reply) = bench.ingress(&who_has(CLIENT, options));
            assert_eq!(verdict, Verdict::Answer);
            expect(&reply, 0x60, MAC_CLIENT, CLIENT);
        }
        assert_eq!(bench.count(VIP6, Counter::NdpAnswered), 3);
    });
}

#[test]
fn a_unicast_solicitation_is_answered_too() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let probe = ipv6(CLIENT, VIP6, 58, 255, &solicitation(VIP6, &[]));
        let (verdict, reply) = bench.ingress(&probe);
        assert_eq!(verdict, Verdict::Answer);
        expect(&reply, 0x60, MAC_CLIENT, CLIENT);
    });
}

#[test]
fn a_duplicate_address_probe_is_answered_to_all_nodes_and_not_as_solicited() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let (verdict, reply) = bench.ingress(&who_has("::", &[]));
        assert_eq!(verdict, Verdict::Answer);
        expect(&reply, 0x20, [0x33, 0x33, 0, 0, 0, 1], "ff02::1");
    });
}

#[test]
fn a_router_says_that_it_is_one() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN | flags::ROUTER);
        let (_, reply) = bench.ingress(&who_has(CLIENT, &SLLAO));
        expect(&reply, 0xe0, MAC_CLIENT, CLIENT);
    });
}

#[test]
fn a_solicitation_is_dropped_while_the_address_is_shut_for_any_reason() {
    with_net(|_| async {
        let mut bench = Bench::new();
        let ask = who_has(CLIENT, &SLLAO);
        bench.manage(VIP6, flags::LOCAL);
        assert_eq!(
            bench.verdict(Direction::Ingress, &ask),
            Verdict::Drop,
            "gate"
        );
        bench.manage_on(VIP6, OPEN, 999);
        assert_eq!(
            bench.verdict(Direction::Ingress, &ask),
            Verdict::Drop,
            "interface"
        );
        bench.manage(VIP6, OPEN);
        bench.deadline(vipd_datapath::boottime_ns());
        assert_eq!(
            bench.verdict(Direction::Ingress, &ask),
            Verdict::Drop,
            "deadline"
        );
        assert_eq!(bench.count(VIP6, Counter::Unanswered), 1);
    });
}

#[test]
fn an_odd_solicitation_is_swallowed_so_that_the_kernel_cannot_answer_it() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let message = solicitation(VIP6, &SLLAO);
        let routed = ipv6(CLIENT, GROUP, 58, 64, &message);
        assert_eq!(bench.verdict(Direction::Ingress, &routed), Verdict::Drop);
        // Hop-by-hop and destination options in front of it.
        for count in 1..=4 {
            let mut payload = Vec::new();
            for left in (0..count).rev() {
                payload.extend([if left == 0 { 58 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
            }
            payload.extend(&message);
            let extended = ipv6(CLIENT, GROUP, 0, 255, &payload);
            assert_eq!(
                bench.verdict(Direction::Ingress, &extended),
                Verdict::Drop,
                "{count}"
            );
        }
    });
}

#[test]
fn what_is_none_of_our_business_passes() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let other = ipv6(
            CLIENT,
            "ff02::1:ff00:101",
            58,
            255,
            &solicitation("fd09::101", &[]),
        );
        let echo = ipv6(CLIENT, VIP6, 58, 64, &[128, 0, 0, 0, 0, 0, 0, 0]);
        for (why, frame) in [
            ("another address", other),
            ("an echo request", echo),
            ("tagged", tagged(&who_has(CLIENT, &SLLAO), 7)),
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
fn a_solicitation_cut_off_at_any_byte_is_answered_only_when_its_target_is_whole() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let frame = who_has(CLIENT, &SLLAO);
        let whole = 14 + 40 + 24;
        for length in 14 + 40..frame.len() {
            let (verdict, reply) = bench.ingress(&frame[..length]);
            if length < whole {
                assert_eq!(verdict, Verdict::Pass, "{length} bytes");
            } else {
                assert_eq!(verdict, Verdict::Answer, "{length} bytes");
                expect(&reply, 0x60, MAC_CLIENT, CLIENT);
            }
        }
    });
}

#[test]
fn the_advertisement_of_another_host_is_a_conflict_and_passes() {
    with_net(|_| async {
        let mut bench = Bench::new();
        bench.manage(VIP6, OPEN);
        let claim = ipv6(CLIENT, "ff02::1", 58, 255, &advertisement(VIP6, 0x20));
        assert_eq!(bench.verdict(Direction::Ingress, &claim), Verdict::Pass);
        assert_eq!(bench.count(VIP6, Counter::Conflict), 1);
        assert_eq!(bench.conflicts()[0].mac, MAC_CLIENT);
        bench.manage(VIP6, 0);
        assert_eq!(bench.verdict(Direction::Ingress, &claim), Verdict::Pass);
        assert_eq!(bench.count(VIP6, Counter::Conflict), 0, "the holder's own");
    });
}

#[test]
fn what_leaves_with_the_address_needs_an_open_gate() {
    with_net(|_| async {
        let mut bench = Bench::new();
        let unsolicited = ipv6(VIP6, "ff02::1", 58, 255, &advertisement(VIP6, 0x20));
        let answer = ipv6(VIP6, CLIENT, 58, 255, &advertisement(VIP6, 0x60));
        // The source may be another address of this host.
        let other = ipv6("fe80::1", CLIENT, 58, 255, &advertisement(VIP6, 0x60));
        let ask = ipv6(
            VIP6,
            "ff02::1:ff00:2",
            58,
            255,
            &solicitation(CLIENT, &SLLAO),
        );
        for (open, verdict) in [(flags::LOCAL, Verdict::Drop), (OPEN, Verdict::Pass)] {
            bench.manage(VIP6, open);
            for frame in [&unsolicited, &answer, &other, &ask] {
                assert_eq!(bench.verdict(Direction::Egress, frame), verdict);
            }
        }
        assert_eq!(bench.count(VIP6, Counter::AnnouncementPassed), 1);
        // A standby resolves the holder like any client.
        bench.manage(VIP6, 0);
        let resolve = ipv6("fd09::1", GROUP, 58, 255, &solicitation(VIP6, &SLLAO));
        assert_eq!(bench.verdict(Direction::Egress, &resolve), Verdict::Pass);
    });
}
