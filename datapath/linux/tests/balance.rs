//! Load balancing as clients and backends meet it: real sockets, through the virtual IPs.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use support::{
    Net, SECOND, VIP4, VIP6,
    lan::{Answer, Connection, Lan, ask_udp, balanced, frontend, service, services},
    run, wanted, with_net,
};
use vipd_datapath::{
    Datapath, FlowFilter, Forward, Gate, Kernel, NodeGate, Packet, Protocol, Services, Verdict,
    Wanted, boottime_ns,
};

const VIPS: [&str; 2] = [VIP4, VIP6];

fn at(vip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(vip.parse().unwrap(), port)
}

fn client_address(vip: &str) -> IpAddr {
    let client = if vip == VIP4 { "10.9.0.2" } else { "fd09::2" };
    client.parse().unwrap()
}

/// That of the first backend.
fn backend_address(vip: &str) -> IpAddr {
    let backend = if vip == VIP4 { "10.9.0.11" } else { "fd09::11" };
    backend.parse().unwrap()
}

async fn hold(net: &Net, wanted: &Wanted) -> (Kernel, Box<dyn NodeGate>) {
    let mut kernel = Kernel::open(&net.pins).await.unwrap();
    kernel.apply(wanted).await.unwrap();
    let mut node = kernel.node_gate().unwrap();
    node.set_deadline(boottime_ns() + 300 * SECOND);
    (kernel, node)
}

/// Answers to one question on each of so many connections, and by as many sockets of UDP.
fn ask_all(net: &Net, vip: &'static str, port: u16, count: usize) -> [Vec<Answer>; 2] {
    net.at_client(move || {
        let tcp = (0..count).map(|n| {
            let mut connection = Connection::open(at(vip, port)).unwrap();
            let answer = connection.ask(&format!("tcp {n}")).unwrap();
            assert_eq!(answer.text, format!("tcp {n}"));
            answer
        });
        let tcp = tcp.collect();
        let ask = |n| ask_udp(at(vip, port), &format!("udp {n}")).unwrap();
        let (udp, _sockets): (Vec<_>, Vec<_>) = (0..count).map(ask).unzip();
        [tcp, udp]
    })
}

fn by_backend(answers: &[Answer]) -> BTreeMap<u8, usize> {
    let mut found = BTreeMap::new();
    for answer in answers {
        *found.entry(answer.backend).or_default() += 1;
    }
    found
}

#[test]
fn nat_spreads_connections_over_backends_that_see_the_virtual_ip() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let wanted = balanced(services(Forward::Nat, &[(11, 1), (12, 1), (13, 2)]));
        let (mut kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            for answers in ask_all(net, vip, 80, 80) {
                let found = by_backend(&answers);
                assert_eq!(
                    found.keys().copied().collect::<Vec<_>>(),
                    [1, 2, 3],
                    "{found:?}"
                );
                assert!(found[&3] > found[&1] && found[&3] > found[&2], "{found:?}");
                assert!(
                    answers
                        .iter()
                        .all(|answer| answer.asker.ip() == at(vip, 0).ip())
                );
            }
        }
        let lens = kernel.lens().unwrap();
        for service in lens.services(None).unwrap() {
            assert_eq!(service.traffic.flows, 80, "{service:?}");
            assert!(service.traffic.packets_in >= 80 && service.traffic.packets_out >= 80);
            assert!(
                service.traffic.drops.values().all(|count| *count == 0),
                "{service:?}"
            );
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_backend_on_the_holder_itself_answers_by_nat_and_sees_the_client() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _remote = lan.serve(1, 8080);
        let _local = [
            lan.serve_at(0, "10.9.0.1", 8080),
            lan.serve_at(0, "fd09::1", 8080),
        ];
        let wanted = balanced(services(Forward::Nat, &[(1, 1), (11, 1)]));
        let (kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            for answers in ask_all(net, vip, 80, 40) {
                assert_eq!(by_backend(&answers).len(), 2);
                for answer in answers {
                    let seen = if answer.backend == 0 {
                        client_address(vip)
                    } else {
                        at(vip, 0).ip()
                    };
                    assert_eq!(answer.asker.ip(), seen, "{answer:?}");
                }
            }
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn dsr_leaves_packets_as_they_are_and_backends_answer_the_client_themselves() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let mut servers = Vec::new();
        for number in 1..=2 {
            lan.prepare_for_dsr(number);
            servers.extend(VIPS.map(|vip| lan.serve_at(number, vip, 80)));
        }
        let wanted = balanced(services(Forward::Dsr, &[(11, 1), (12, 1)]));
        let (mut kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            for answers in ask_all(net, vip, 80, 40) {
                assert_eq!(by_backend(&answers).len(), 2);
                assert!(
                    answers
                        .iter()
                        .all(|answer| answer.asker.ip() == client_address(vip))
                );
            }
        }
        let seen = kernel.lens().unwrap().services(None).unwrap();
        assert!(
            seen.iter().all(|service| service.traffic.packets_out == 0),
            "{seen:?}"
        );
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_standby_that_is_a_dsr_backend_serves_what_the_holder_sends_and_answers_no_arp() {
    with_net(|net| async move {
        let lan = Lan::new(net, 0);
        for setting in ["arp_ignore=1", "arp_announce=2"] {
            run("sysctl", &["-qw", &format!("net.ipv4.conf.all.{setting}")]);
        }
        run("ip", &["addr", "add", VIP4, "dev", "lo"]);
        run("ip", &["addr", "add", VIP6, "dev", "lo", "nodad"]);
        let _servers = VIPS.map(|vip| lan.serve_at(0, vip, 80));
        let standby = |mode| Wanted {
            services: std::sync::Arc::new(services(mode, &[(1, 1)])),
            ..wanted(Gate::Shut, 1)
        };
        let (mut kernel, _node) = hold(net, &standby(Forward::Dsr)).await;
        assert!(
            VIPS.into_iter().all(|vip| net.silent(vip)),
            "it is no holder"
        );
        // As the holder does it: to this host's MAC.
        for vip in VIPS {
            let entry = [
                "lladdr",
                "02:00:00:00:00:01",
                "dev",
                "lan",
                "nud",
                "permanent",
            ];
            assert!(net.client_does(&[&["ip", "neigh", "replace", vip][..], &entry].concat()));
            for answers in ask_all(net, vip, 80, 3) {
                assert!(
                    answers
                        .iter()
                        .all(|answer| answer.asker.ip() == client_address(vip))
                );
            }
        }
        kernel.apply(&standby(Forward::Nat)).await.unwrap();
        for vip in VIPS {
            let silent = net.at_client(move || {
                std::net::TcpStream::connect_timeout(&at(vip, 80), Duration::from_millis(300))
                    .is_err()
            });
            assert!(silent, "{vip}: who is no dsr backend is fenced");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn ports_without_a_service_are_the_hosts_own_and_port_0_is_all_the_others() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let _servers = [lan.serve(1, 8080), lan.serve(2, 9090), lan.serve(2, 9091)];
        let mut all = Services::new();
        for vip in VIPS {
            all.insert(
                frontend(vip, 80, Protocol::Tcp),
                service(vip, Forward::Nat, 8080, &[(11, 1)]),
            );
        }
        let (mut kernel, _node) = hold(net, &balanced(all.clone())).await;
        let own = lan.serve_at(0, "::", 22);
        for vip in VIPS {
            let answers = net.at_client(move || {
                let ask = |port| Connection::open(at(vip, port))?.ask("who");
                [80, 22, 9090].map(|port| {
                    ask(port)
                        .map(|answer| answer.backend)
                        .map_err(|error| error.kind())
                })
            });
            assert_eq!(
                answers,
                [Ok(1), Ok(0), Err(std::io::ErrorKind::ConnectionRefused)]
            );
            assert!(net.answers(vip), "ping is the host's");
        }
        for vip in VIPS {
            all.insert(
                frontend(vip, 0, Protocol::Tcp),
                service(vip, Forward::Nat, 0, &[(12, 1)]),
            );
        }
        kernel.apply(&balanced(all)).await.unwrap();
        for vip in VIPS {
            let answers = net.at_client(move || {
                let ask = |port| Connection::open(at(vip, port))?.ask("who");
                [80, 9090, 9091].map(|port| ask(port).unwrap().backend)
            });
            assert_eq!(answers, [1, 2, 2]);
        }
        drop(own);
        kernel.remove().await.unwrap();
    });
}

/// Opens connections and asks once on each.
fn opened(net: &Net, vip: &'static str, count: usize) -> Vec<(u8, Connection)> {
    net.at_client(move || {
        let open = |_| {
            let mut connection = Connection::open(at(vip, 80)).unwrap();
            (connection.ask("hello").unwrap().backend, connection)
        };
        (0..count).map(open).collect()
    })
}

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
                }
            }
        }
        assert_eq!((made, gone), (21, 20));
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
                let packet = |client: (IpAddr, u16), port, opens| Packet {
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

#[test]
fn a_client_stays_with_its_backend_by_affinity_and_is_refused_outside_the_ranges() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let with = |affinity: bool, ranges: &[(&str, u8)]| {
            let mut all = services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]);
            for service in all.values_mut() {
                let service = std::sync::Arc::make_mut(service);
                service.affinity = affinity;
                let ranges = ranges.iter();
                service.ranges = ranges
                    .map(|(address, length)| (address.parse().unwrap(), *length))
                    .collect();
            }
            balanced(all)
        };
        let (mut kernel, _node) = hold(net, &with(true, &[])).await;
        for vip in VIPS {
            let [tcp, _] = ask_all(net, vip, 80, 20);
            assert_eq!(by_backend(&tcp).len(), 1, "one client: one backend");
        }
        let refused = |vip: &'static str| {
            net.at_client(move || {
                let to = at(vip, 80);
                std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_err()
            })
        };
        let both = [("10.9.0.0", 24), ("fd09::", 64)];
        kernel.apply(&with(false, &both)).await.unwrap();
        assert!(VIPS.into_iter().all(|vip| !refused(vip)));
        assert!(
            by_backend(&ask_all(net, VIP4, 80, 40)[0]).len() == 3,
            "spread again"
        );
        let mut open = opened(net, VIP4, 1).remove(0).1;
        kernel
            .apply(&with(false, &[("10.9.0.3", 32), ("fd09::", 64)]))
            .await
            .unwrap();
        assert!(refused(VIP4) && !refused(VIP6));
        assert_eq!(open.ask("begun before").unwrap().text, "begun before");
        let of = frontend(VIP4, 80, Protocol::Tcp);
        let seen = kernel.lens().unwrap().services(Some(of)).unwrap().remove(0);
        assert!(seen.traffic.drops["forbidden"] >= 1, "{seen:?}");

        // The next daemon knows what is in the map, and takes it away when it is wanted no more.
        drop(kernel);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        kernel.apply(&with(false, &both)).await.unwrap();
        assert!(VIPS.into_iter().all(|vip| !refused(vip)));
        kernel
            .apply(&with(false, &[("10.0.0.0", 8)]))
            .await
            .unwrap();
        assert!(
            !refused(VIP4) && refused(VIP6),
            "no range of its family: nobody"
        );
        kernel.apply(&with(false, &[])).await.unwrap();
        assert!(VIPS.into_iter().all(|vip| !refused(vip)));
        kernel.remove().await.unwrap();
    });
}
