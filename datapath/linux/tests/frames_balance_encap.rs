//! dsr through routers, frame by frame: what a packet travels inside of, and what is said of one that does not fit.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use support::balance::{BACKEND, Balanced, Forward, SERVICE, at, ip, sample};
use support::bench::{Direction, Verdict};
use support::packet::ethernet;
use support::segment::{ACK, Piece, SYN, Segment, Transport, complaint, sum, too_big};
use support::{MAC_CLIENT, MAC_HOST, VIP4, VIP6, with_net};
use vipd_datapath_common::balance::{
    Direction as Way, Reason, balance_flags, flow_flags, service_flags,
};
use vipd_datapath_common::flags;

const ETHERNET: usize = 14;
/// MTU of the interface of the bench.
const MTU: usize = 1500;

/// A service whose backend is reached by a dispatch, and a client of it.
#[derive(Clone, Debug)]
struct Case {
    gue: bool,
    transport: Transport,
    client: SocketAddr,
    vip: SocketAddr,
    backend: IpAddr,
    own: IpAddr,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for gue in [false, true] {
            for transport in [Transport::Tcp(SYN), Transport::Udp] {
                for [client, vip, backend, own] in [
                    ["192.0.2.9", VIP4, "10.8.0.21", "10.9.0.1"],
                    ["2001:db8::9", VIP6, "fd08::21", "fd09::1"],
                ] {
                    cases.push(Self {
                        gue,
                        transport,
                        client: at(client, 40_000),
                        vip: at(vip, 80),
                        backend: ip(backend),
                        own: ip(own),
                    });
                }
            }
        }
        sample(cases)
    }

    /// A bench with this service alone, out of the interface `lan`.
    fn bench(&self) -> Balanced {
        let mut balanced = Balanced::new();
        let backend = SocketAddr::new(self.backend, 0);
        balanced.serve(self.vip, self.transport.number(), Forward::Dsr, backend);
        balanced.flag(if self.gue {
            service_flags::GUE
        } else {
            service_flags::IPIP
        });
        let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
        entry.source = self.own.into();
        entry.ifindex = balanced.bench.ifindex;
        balanced.backends.insert(BACKEND, entry, 0).unwrap();
        balanced
    }

    fn asks(&self) -> Segment {
        Segment::new(self.client, self.vip, self.transport)
    }

    /// A packet of so many bytes, IP header and all.
    fn asks_of(&self, length: usize) -> Segment {
        let mut asks = self.asks();
        asks.payload.clear();
        asks.payload = vec![0xa5; length - asks.packet().len()];
        asks
    }

    /// Bytes that the outer headers take.
    fn room(&self) -> usize {
        (if self.vip.is_ipv4() { 20 } else { 40 }) + if self.gue { 12 } else { 0 }
    }

    /// The frame in which a packet travels, as far as it is known before: the identification of IPv4, and the source port
    /// and flow label that tell flows apart, are taken from `out`.
    fn wrapped(&self, packet: &[u8], out: &[u8]) -> Vec<u8> {
        let v4 = self.vip.is_ipv4();
        let inside = if v4 { 4 } else { 41 };
        let next = if self.gue { 17 } else { inside };
        let network = self.room() - if self.gue { 12 } else { 0 };
        let mut body = Vec::new();
        if self.gue {
            body.extend(&out[ETHERNET + network..ETHERNET + network + 2]);
            body.extend(6080u16.to_be_bytes());
            body.extend((12 + packet.len() as u16).to_be_bytes());
            body.extend([0, 0, 0, inside, 0, 0]);
        }
        body.extend(packet);
        let mut head;
        match (self.own, self.backend) {
            (IpAddr::V4(own), IpAddr::V4(backend)) => {
                head = vec![0x45, packet[1]];
                head.extend((20 + body.len() as u16).to_be_bytes());
                head.extend(&out[ETHERNET + 4..ETHERNET + 6]);
                head.extend([0, 0, 64, next, 0, 0]);
                head.extend(own.octets());
                head.extend(backend.octets());
                let sum = !sum(&head);
                head[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(own), IpAddr::V6(backend)) => {
                head = vec![0x60 | packet[0] & 0x0f, packet[1] & 0xf0];
                head.extend(&out[ETHERNET + 2..ETHERNET + 4]);
                head.extend((body.len() as u16).to_be_bytes());
                head.extend([next, 64]);
                head.extend(own.octets());
                head.extend(backend.octets());
            }
            mixed => panic!("of two families: {mixed:?}"),
        }
        head.extend(body);
        ethernet(
            MAC_HOST,
            MAC_CLIENT,
            if v4 { 0x0800 } else { 0x86dd },
            &head,
        )
    }

    /// What the client is told of a packet that is too big.
    fn told(&self, about: &Segment, mtu: u32) -> Vec<u8> {
        let kind = if self.vip.is_ipv4() { [3, 4] } else { [2, 0] };
        complaint(about, kind, mtu)
    }
}

fn each(check: impl Fn(&Case) + Send + 'static) {
    with_net(move |_| async move { Case::all().iter().for_each(&check) });
}

/// The source port of GUE, or the flow label.
fn mark(case: &Case, out: &[u8]) -> u16 {
    let at = if case.gue {
        ETHERNET + case.room() - 12
    } else {
        ETHERNET + 2
    };
    u16::from_be_bytes([out[at], out[at + 1]])
}

#[test]
fn a_packet_travels_unchanged_inside_another_one_from_the_holders_address_to_the_backends() {
    each(|case| {
        let balanced = case.bench();
        for packet in [case.asks(), case.asks()] {
            let (verdict, out) = balanced.ingress(&packet);
            let expected = case.wrapped(&packet.packet(), &out);
            assert_eq!((verdict, out), (Verdict::Answer, expected), "{case:?}");
        }
        let flow = balanced.flow(&case.asks()).expect("it is recorded");
        let by = if case.gue {
            flow_flags::GUE
        } else {
            flow_flags::IPIP
        };
        assert_eq!(flow.flags, flow_flags::DSR | by, "{case:?}");
        let tally = balanced.tally(SERVICE, BACKEND);
        assert_eq!(tally.packets[Way::Forward as usize], 2, "{case:?}");
    });
}

#[test]
fn the_traffic_class_and_marks_of_congestion_are_those_of_the_packet_inside() {
    each(|case| {
        let balanced = case.bench();
        let mut packet = case.asks().packet();
        if case.vip.is_ipv4() {
            packet[1] = 0xb9;
            packet[10..12].fill(0);
            let sum = !sum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet[..2].copy_from_slice(&[0x6b, 0x90]);
        }
        let kind = if case.vip.is_ipv4() { 0x0800 } else { 0x86dd };
        let frame = ethernet(MAC_HOST, MAC_CLIENT, kind, &packet);
        let (verdict, out) = balanced.bench.run(Direction::Ingress, &frame);
        let expected = case.wrapped(&packet, &out);
        assert_eq!((verdict, out), (Verdict::Answer, expected), "{case:?}");
    });
}

#[test]
fn routers_can_tell_flows_apart() {
    each(|case| {
        if !case.gue && case.vip.is_ipv4() {
            return; // IP in IP over IPv4 has nothing to tell them apart by.
        }
        let balanced = case.bench();
        let mut marks = BTreeSet::new();
        for port in 1..=50 {
            let mut packet = case.asks();
            packet.source.set_port(port);
            let (_, first) = balanced.ingress(&packet);
            let (_, second) = balanced.ingress(&packet);
            assert_eq!(mark(case, &first), mark(case, &second), "{case:?} {port}");
            marks.insert(mark(case, &first));
        }
        assert!(marks.len() > 40, "{case:?}: {marks:?}");
        if case.gue {
            assert!(marks.iter().all(|port| *port >= 49_152), "{marks:?}");
        }
    });
}

#[test]
fn what_just_fits_is_sent_and_the_sender_of_more_is_told_what_would_fit() {
    each(|case| {
        let balanced = case.bench();
        let most = MTU - case.room();
        let fits = case.asks_of(most);
        let (verdict, out) = balanced.ingress(&fits);
        let expected = case.wrapped(&fits.packet(), &out);
        assert_eq!((verdict, out), (Verdict::Answer, expected), "{case:?}");

        let too_much = case.asks_of(most + 1);
        let (verdict, out) = balanced.ingress(&too_much);
        let told = case.told(&too_much, most as u32);
        assert_eq!((verdict, out), (Verdict::Answer, told), "{case:?}");
        let tally = balanced.tally(SERVICE, BACKEND);
        assert_eq!(tally.dropped(Reason::TooBig), 1, "{case:?}");
        assert_eq!(tally.packets[Way::Forward as usize], 1, "{case:?}");
    });
}

#[test]
fn what_the_route_to_the_backend_carries_counts_where_that_is_less_than_the_interface() {
    each(|case| {
        let mut balanced = case.bench();
        for (route, fits) in [(1400, 1400), (9000, MTU)] {
            let mut entry = balanced.backends.get(&BACKEND, 0).unwrap();
            entry.mtu = route;
            balanced.backends.insert(BACKEND, entry, 0).unwrap();
            let most = fits - case.room();
            let (_, out) = balanced.ingress(&case.asks_of(most));
            assert_eq!(out.len(), ETHERNET + fits, "{case:?}");
            let too_much = case.asks_of(most + 1);
            let told = case.told(&too_much, most as u32);
            assert_eq!(
                balanced.ingress(&too_much),
                (Verdict::Answer, told),
                "{case:?}"
            );
        }
    });
}

#[test]
fn nothing_is_said_of_later_pieces_that_do_not_fit() {
    each(|case| {
        let balanced = case.bench();
        let piece = |offset, more, length| Segment {
            piece: Some(Piece {
                id: 7,
                offset,
                more,
            }),
            payload: vec![1; length],
            ..case.asks()
        };
        let (first, later) = (piece(0, true, 64), piece(100, false, MTU - 20));
        for packet in [first, piece(10, true, 64)] {
            let (verdict, out) = balanced.ingress(&packet);
            let expected = case.wrapped(&packet.packet(), &out);
            assert_eq!((verdict, out), (Verdict::Answer, expected), "{case:?}");
        }
        assert_eq!(balanced.ingress(&later).0, Verdict::Drop, "{case:?}");
        assert_eq!(balanced.dropped(Reason::TooBig), 1, "{case:?}");
    });
}

#[test]
fn a_cpu_tells_of_so_many_in_a_second_and_no_more() {
    with_net(|_| async {
        let case = &Case::all()[0];
        let balanced = case.bench();
        let packet = case.asks_of(MTU);
        let begin = std::time::Instant::now();
        let cpus = aya::util::nr_cpus().unwrap();
        let count = 1_000 * cpus + 500;
        let verdicts: Vec<Verdict> = (0..count).map(|_| balanced.ingress(&packet).0).collect();
        let seconds = begin.elapsed().as_secs() as usize + 1;
        let told = verdicts.iter().filter(|it| **it == Verdict::Answer).count();
        assert!(told >= 1_000, "{told}");
        assert!(
            told <= 1_000 * cpus * (seconds + 1),
            "{told} in {seconds} s"
        );
        assert!(told < count || seconds > 1, "{told} of {count}");
        assert_eq!(balanced.dropped(Reason::TooBig), count as u64);
    });
}

#[test]
fn a_flow_that_is_not_recorded_travels_the_same_way() {
    each(|case| {
        let mut balanced = case.bench();
        // One flow a second and CPU, so after one on each CPU no other.
        balanced.node(0, 1);
        let cpus = aya::util::nr_cpus().unwrap() as u16;
        let mut packet = case.asks();
        for port in 1..=4 * cpus {
            packet.source.set_port(port);
            let (verdict, out) = balanced.ingress(&packet);
            let expected = case.wrapped(&packet.packet(), &out);
            assert_eq!((verdict, out), (Verdict::Answer, expected), "{case:?}");
        }
        assert!(balanced.count_flows() < usize::from(4 * cpus), "{case:?}");
        let tally = balanced.tally(SERVICE, BACKEND);
        assert_eq!(tally.packets[Way::Forward as usize], u64::from(4 * cpus));
        let mut big = case.asks_of(MTU);
        big.source.set_port(60_000);
        let (_, out) = balanced.ingress(&big);
        assert_eq!(&out[..6], MAC_CLIENT, "{case:?}: the client is told");
    });
}

#[test]
fn an_error_about_an_answer_travels_to_the_backend_that_sent_it() {
    each(|case| {
        let balanced = case.bench();
        balanced.ingress(&case.asks());
        let transport = match case.transport {
            Transport::Tcp(_) => Transport::Tcp(ACK),
            other => other,
        };
        let answer = Segment::new(case.vip, case.client, transport);
        let router = ip(if case.vip.is_ipv4() {
            "198.51.100.1"
        } else {
            "2001:db8:1::1"
        });
        let error = too_big(router, case.vip.ip(), 50, &answer, 64);
        let (verdict, out) = balanced.bench.run(Direction::Ingress, &error);
        let expected = case.wrapped(&error[ETHERNET..], &out);
        assert_eq!((verdict, out), (Verdict::Answer, expected), "{case:?}");
    });
}

#[test]
fn a_backend_that_is_the_holder_gets_packets_as_they_came() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.add_backend(BACKEND, SocketAddr::new(case.backend, 0), true);
        balanced.node(balance_flags::LOCAL_BACKENDS, 0);
        let packet = case.asks_of(MTU);
        let expected = (Verdict::Pass, packet.frame());
        assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
    });
}

#[test]
fn a_holder_whose_lease_is_over_wraps_nothing() {
    each(|case| {
        let mut balanced = case.bench();
        balanced.ingress(&case.asks());
        balanced.bench.deadline(1);
        for packet in [case.asks(), case.asks_of(MTU)] {
            let expected = (Verdict::Drop, packet.frame());
            assert_eq!(balanced.ingress(&packet), expected, "{case:?}");
        }
        let entry = flags::LOCAL | flags::BALANCED;
        balanced.bench.manage(&case.vip.ip().to_string(), entry);
        balanced.bench.deadline(u64::MAX);
        assert_eq!(balanced.ingress(&case.asks()).0, Verdict::Drop, "{case:?}");
    });
}
