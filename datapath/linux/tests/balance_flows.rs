//! Flows that are balanced, while backends, daemons and leases come and go.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use support::{
    SECOND, VIP4, VIP6,
    clients::{VIPS, ask_all, at, backend_address, client_address, hold, opened},
    lan::{Lan, balanced, frontend, services},
    with_net,
};
use vipd_datapath::{Datapath, FlowFilter, Forward, Packet, Protocol, Verdict, boottime_ns};

#[test]
fn what_has_begun_at_a_backend_that_goes_ends_there_and_new_ones_go_elsewhere() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let all = balanced(services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]));
        let (mut kernel, _node) = hold(net, &all).await;
        let mut connections: Vec<_> = VIPS
            .into_iter()
            .flat_map(|vip| opened(net, vip, 40))
            .collect();
        let used: BTreeSet<u8> = connections.iter().map(|(backend, _)| *backend).collect();
        assert_eq!(used.len(), 3);
        for fewer in [
            &[(11, 1), (12, 0), (13, 1)][..],
            &[(11, 1), (13, 1)],
            &[(13, 1)],
        ] {
            // The second and third round of the plan take away what nobody needs.
            for _ in 0..3 {
                kernel
                    .apply(&balanced(services(Forward::Nat, fewer)))
                    .await
                    .unwrap();
            }
            let gone: Vec<u8> = (1..=3)
                .filter(|n| {
                    !fewer
                        .iter()
                        .any(|(last, weight)| *last == n + 10 && *weight > 0)
                })
                .collect();
            for (backend, connection) in &mut connections {
                assert_eq!(connection.ask("still there?").unwrap().backend, *backend);
            }
            for vip in VIPS {
                for (backend, _) in opened(net, vip, 20) {
                    assert!(!gone.contains(&backend), "{backend} {fewer:?}");
                }
            }
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn connections_outlive_the_daemon_and_its_restart() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let _servers: Vec<_> = (1..=2).map(|n| lan.serve(n, 8080)).collect();
        let wanted = balanced(services(Forward::Nat, &[(11, 1), (12, 1)]));
        let (kernel, node) = hold(net, &wanted).await;
        let mut connections = opened(net, VIP4, 30);
        connections.extend(opened(net, VIP6, 30));
        let mut ask = |when: &str| {
            for (backend, connection) in &mut connections {
                assert_eq!(connection.ask(when).unwrap().backend, *backend, "{when}");
            }
        };
        drop((kernel, node));
        ask("without a daemon");
        let (mut kernel, _node) = hold(net, &wanted).await;
        ask("with another");
        kernel.apply(&wanted).await.unwrap();
        ask("that has audited");
        assert_eq!(opened(net, VIP4, 1).len(), 1);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn without_a_usable_backend_packets_are_dropped_and_counted() {
    with_net(|net| async move {
        let _lan = Lan::new(net, 0);
        let none = balanced(services(Forward::Nat, &[]));
        let (mut kernel, _node) = hold(net, &none).await;
        let refused = net.at_client(|| {
            let to = at(VIP4, 80);
            std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300))
                .unwrap_err()
                .kind()
        });
        assert_eq!(
            refused,
            std::io::ErrorKind::TimedOut,
            "not refused: it may come back"
        );
        let of = frontend(VIP4, 80, Protocol::Tcp);
        let seen = kernel.lens().unwrap().services(Some(of)).unwrap().remove(0);
        assert!(seen.traffic.drops["no_backend"] >= 1, "{seen:?}");
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_holder_that_has_lost_its_lease_balances_nothing() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let (kernel, mut node) = hold(net, &wanted).await;
        let mut connection = opened(net, VIP4, 1).remove(0).1;
        node.set_deadline(0);
        let silent = net.at_client(|| {
            let to = at(VIP4, 80);
            std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_err()
        });
        assert!(silent);
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert_eq!(
            connection.ask("again").unwrap().backend,
            1,
            "the flow is still known"
        );
        kernel.remove().await.unwrap();
    });
}

#[test]
fn flows_that_are_over_are_forgotten_and_others_are_not() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let (mut kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(11, 1)]))).await;
        let lens = kernel.lens().unwrap();
        let mut news = kernel
            .records()
            .unwrap()
            .news()
            .expect("nobody has taken them");
        let mut stays = opened(net, VIP4, 1).remove(0).1;
        ask_all(net, VIP4, 80, 10); // each closed at once, or one datagram
        let states = |name: &str| {
            let flows = lens.flows(&FlowFilter::default(), 100).unwrap().flows;
            flows.iter().filter(|flow| flow.state == name).count()
        };
        assert_eq!((states("question"), states("open")), (10, 1));
        let start = Instant::now();
        while lens.flows(&FlowFilter::default(), 100).unwrap().known > 1 {
            assert!(start.elapsed() < Duration::from_secs(40), "they stay");
            thread::sleep(Duration::from_millis(200));
        }
        assert!(start.elapsed() > Duration::from_secs(8), "too soon");
        assert_eq!(stays.ask("still there?").unwrap().backend, 1);
        let (mut made, mut gone) = (0, 0);
        while let Ok(batch) = news.try_recv() {
            for event in batch {
                match event {
                    vipd_datapath::FlowNews::Made(_) => made += 1,
                    vipd_datapath::FlowNews::Gone(_) => gone += 1,
                    vipd_datapath::FlowNews::Kept(kept) => panic!("{kept:?}: no client is kept"),
                }
            }
        }
        assert_eq!((made, gone), (21, 20));
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_client_alone_keeps_no_flow_to_a_backend_that_never_answers() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _silent = lan.socket(1, 8080);
        let (mut kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(11, 1)]))).await;
        let lens = kernel.lens().unwrap();
        let client = net.at_client(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        let begun = || {
            let service = frontend(VIP4, 80, Protocol::Udp);
            lens.services(Some(service)).unwrap()[0].traffic.flows
        };
        let start = Instant::now();
        while begun() < 2 {
            assert!(start.elapsed() < Duration::from_secs(40), "it stays");
            client.send_to(b"to nobody", at(VIP4, 80)).unwrap();
            thread::sleep(Duration::from_millis(200));
        }
        assert!(start.elapsed() > Duration::from_secs(8), "too soon");
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_trace_tells_the_way_of_a_packet_and_leaves_no_flow() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let (mut kernel, mut node) = hold(net, &wanted).await;
        let lens = kernel.lens().unwrap();
        let known = || lens.flows(&FlowFilter::default(), 10).unwrap().known;
        for vip in VIPS {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let packet = |client: (std::net::IpAddr, u16), port, opens| Packet {
                    client,
                    vip: (vip.parse().unwrap(), port),
                    protocol,
                    opens,
                };
                let stranger = (client_address(vip), 40_000);
                let backend = backend_address(vip);
                for opens in [true, false] {
                    let trace = lens.trace(&packet(stranger, 80, opens)).unwrap();
                    assert_eq!(trace.verdict, Verdict::Sent, "{trace:?}");
                    assert_eq!(trace.service, Some(frontend(vip, 80, protocol)));
                    assert_eq!(trace.backend, Some((backend, 8080)));
                    assert_eq!(trace.source, (vip.parse().unwrap(), 40_000));
                    assert_eq!(trace.destination, (backend, 8080));
                    assert!(!trace.known && trace.reason.is_none());
                    assert_eq!(known(), 0, "it is forgotten again");
                }
                let own = lens.trace(&packet(stranger, 22, true)).unwrap();
                // A datagram that no socket waits for may be an answer of a connection that is not known yet.
                let expected = match protocol {
                    Protocol::Tcp => (Verdict::Passed, None),
                    Protocol::Udp => (Verdict::Dropped, Some("stray")),
                };
                assert_eq!((own.verdict, own.reason), expected, "{protocol}");
                assert!(own.service.is_none() && own.backend.is_none());
            }
        }
        let mut connection = opened(net, VIP4, 1).remove(0).1;
        let of = Packet {
            client: (client_address(VIP4), connection.port()),
            vip: (VIP4.parse().unwrap(), 80),
            protocol: Protocol::Tcp,
            opens: true,
        };
        let trace = lens.trace(&of).unwrap();
        assert!(trace.known && trace.verdict == Verdict::Sent);
        assert_eq!(connection.ask("unharmed?").unwrap().backend, 1);
        kernel
            .apply(&balanced(services(Forward::Nat, &[])))
            .await
            .unwrap();
        let strange = Packet {
            client: (client_address(VIP4), 1),
            ..of
        };
        let trace = lens.trace(&strange).unwrap();
        assert_eq!(
            (trace.verdict, trace.reason),
            (Verdict::Dropped, Some("no_backend"))
        );
        node.set_deadline(0);
        let trace = lens.trace(&strange).unwrap();
        assert_eq!(
            (trace.verdict, trace.reason),
            (Verdict::Dropped, Some("shut"))
        );
        let mixed = Packet {
            client: (client_address(VIP6), 1),
            ..of
        };
        assert!(
            lens.trace(&mixed)
                .unwrap_err()
                .to_string()
                .contains("families differ")
        );
        kernel.remove().await.unwrap();
    });
}
