//! Clients on the holder itself: programs that ask for a virtual IP which sits on their own host get a backend, too.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use support::clients::{VIPS, ask_all, at, backend_address, by_backend, hold};
use support::lan::{
    Answer, Connection, Lan, PATIENCE, ask_udp, balanced, frontend, service, services,
};
use support::{Net, VIP4, VIP6, enter, with_net};
use vipd_datapath::{Datapath, Dispatch, Forward, Kernel, Protocol, Services, Wanted};
use vipd_datapath_common::SCHEMA;

/// The host's own address.
fn own(vip: &str) -> IpAddr {
    let own = if vip == VIP4 { "10.9.0.1" } else { "fd09::1" };
    own.parse().unwrap()
}

/// Asks by TCP as a program of the host; it believes to talk to whom it asked.
fn ask_tcp(to: SocketAddr) -> std::io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    assert_eq!(stream.peer_addr()?, to);
    drop(stream);
    Connection::open(to)?.ask("who")
}

/// Asks by a UDP socket that names its peer with each datagram.
fn ask_unconnected(socket: &UdpSocket, to: SocketAddr) -> Answer {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"who", to).unwrap();
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, to, "it is answered by whom it asked");
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let mut words = text.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap();
    Answer {
        backend: word().parse().unwrap(),
        asker: word().parse().unwrap(),
        text: word(),
    }
}

fn any(vip: &str) -> UdpSocket {
    UdpSocket::bind((own(vip), 0)).unwrap()
}

/// Backends on hosts of their own, and the host itself as number 0, at the ports of [`services`].
fn both_modes(lan: &Lan) -> Vec<support::lan::Server> {
    let mut servers = Vec::new();
    for number in 1..=2 {
        servers.extend([lan.serve(number, 8080), lan.serve(number, 80)]);
    }
    servers
}

#[test]
fn programs_on_the_holder_reach_backends_in_every_mode_by_tcp_and_udp() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let _servers = both_modes(&lan);
        let modes = [
            Forward::Nat,
            Forward::Dsr(Dispatch::L2),
            Forward::Dsr(Dispatch::Gue),
        ];
        for mode in modes {
            let (kernel, _node) = hold(net, &balanced(services(mode, &[(11, 1), (12, 1)]))).await;
            for vip in VIPS {
                let to = at(vip, 80);
                let tcp: Vec<_> = (0..40).map(|_| ask_tcp(to).unwrap()).collect();
                let ask = |_| ask_udp(to, "who").unwrap();
                let (connected, sockets): (Vec<_>, Vec<_>) = (0..40).map(ask).unzip();
                assert!(sockets.iter().all(|it| it.peer_addr().unwrap() == to));
                let named = (0..40).map(|_| ask_unconnected(&any(vip), to)).collect();
                for answers in [tcp, connected, named] {
                    let found = by_backend(&answers);
                    assert_eq!(found.keys().collect::<Vec<_>>(), [&1, &2], "{mode:?} {vip}");
                    let seen: BTreeSet<IpAddr> = answers.iter().map(|it| it.asker.ip()).collect();
                    assert_eq!(seen, [own(vip)].into(), "from the host's own address");
                }
                let socket = any(vip);
                let same: BTreeSet<u8> = (0..20)
                    .map(|_| ask_unconnected(&socket, to).backend)
                    .collect();
                assert_eq!(same.len(), 1, "one socket: one backend");
                // Who connects may name the virtual IP all the same. Some stacks refuse that; Linux does not.
                for _ in 0..10 {
                    let socket = any(vip);
                    socket.connect(to).unwrap();
                    ask_unconnected(&socket, to);
                }
            }
            kernel.remove().await.unwrap();
        }
    });
}

#[test]
fn a_backend_on_the_holder_serves_programs_beside_it() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _remote = lan.serve(1, 8080);
        let _local = [
            lan.serve_at(0, "10.9.0.1", 8080),
            lan.serve_at(0, "fd09::1", 8080),
        ];
        let wanted = balanced(services(Forward::Nat, &[(1, 1), (11, 1)]));
        let (mut kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            let answers: Vec<_> = (0..40).map(|_| ask_tcp(at(vip, 80)).unwrap()).collect();
            assert_eq!(by_backend(&answers).len(), 2, "{vip}");
        }
        // With dsr a backend on the holder has the virtual IP itself.
        let _at_vip = VIPS.map(|vip| lan.serve_at(0, vip, 80));
        let dsr = services(Forward::Dsr(Dispatch::L2), &[(1, 1)]);
        kernel.apply(&balanced(dsr)).await.unwrap();
        for vip in VIPS {
            assert_eq!(ask_tcp(at(vip, 80)).unwrap().backend, 0);
            let (answer, _socket) = ask_udp(at(vip, 80), "who").unwrap();
            assert_eq!(answer.backend, 0, "{vip}");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn sockets_of_both_families_may_name_an_ipv4_address_as_ipv6_does() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let (kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(11, 1)]))).await;
        let mapped: SocketAddr = format!("[::ffff:{VIP4}]:80").parse().unwrap();
        assert_eq!(ask_tcp(mapped).unwrap().backend, 1);
        let socket = UdpSocket::bind("[::]:0").unwrap();
        assert_eq!(ask_unconnected(&socket, mapped).backend, 1);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn ports_without_a_service_stay_the_hosts_own_and_services_share_an_address_by_port() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let _servers = [lan.serve(1, 8080), lan.serve(2, 9090), lan.serve(2, 81)];
        let mut all = Services::new();
        for vip in VIPS {
            for (port, to, backend) in [(80, 8080, 11), (443, 9090, 12)] {
                let service = service(vip, Forward::Nat, to, &[(backend, 1)]);
                all.insert(frontend(vip, port, Protocol::Tcp), service);
            }
        }
        let (mut kernel, _node) = hold(net, &balanced(all.clone())).await;
        let _own = VIPS.map(|vip| lan.serve_at(0, vip, 22));
        for vip in VIPS {
            let asked = [80, 443, 22].map(|port| ask_tcp(at(vip, port)).unwrap().backend);
            assert_eq!(asked, [1, 2, 0], "{vip}");
            let refused = TcpStream::connect(at(vip, 81)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{vip}");
        }
        for vip in VIPS {
            let service = service(vip, Forward::Nat, 0, &[(12, 1)]);
            all.insert(frontend(vip, 0, Protocol::Tcp), service);
        }
        kernel.apply(&balanced(all)).await.unwrap();
        for vip in VIPS {
            let asked = [80, 81].map(|port| ask_tcp(at(vip, port)).unwrap().backend);
            assert_eq!(asked, [1, 2], "{vip}: port 0 is all the others");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn who_may_use_a_service_and_that_nobody_serves_it_holds_on_the_holder_too() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let with = |ranges: &[(&str, u8)]| {
            let mut all = services(Forward::Nat, &[(11, 1)]);
            for service in all.values_mut() {
                let ranges = ranges.iter();
                Arc::make_mut(service).ranges = ranges
                    .map(|(address, length)| (address.parse().unwrap(), *length))
                    .collect();
            }
            balanced(all)
        };
        let both = |host: &str| {
            [
                (format!("10.9.0.{host}"), 32),
                (format!("fd09::{host}"), 128),
            ]
        };
        let (mut kernel, _node) = hold(net, &Wanted::default()).await;
        for (host, may) in [("1", true), ("2", false)] {
            let ranges = both(host);
            let ranges = ranges.each_ref().map(|(at, length)| (at.as_str(), *length));
            kernel.apply(&with(&ranges)).await.unwrap();
            for vip in VIPS {
                let found = TcpStream::connect(at(vip, 80))
                    .map(drop)
                    .map_err(|error| error.kind());
                let expected = if may {
                    Ok(())
                } else {
                    Err(ErrorKind::PermissionDenied)
                };
                assert_eq!(found, expected, "{vip} {host}");
            }
        }
        let seen = |kernel: &mut Kernel| {
            let of = frontend(VIP4, 80, Protocol::Tcp);
            kernel
                .lens()
                .unwrap()
                .services(Some(of))
                .unwrap()
                .remove(0)
                .traffic
        };
        assert_eq!(seen(&mut kernel).drops["forbidden"], 1);
        assert_eq!(seen(&mut kernel).flows, 1, "the one that was let through");
        kernel
            .apply(&balanced(services(Forward::Nat, &[])))
            .await
            .unwrap();
        let error = TcpStream::connect(at(VIP4, 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(seen(&mut kernel).drops["no_backend"], 1);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn with_affinity_all_programs_of_a_host_are_one_client() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let mut all = services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]);
        for service in all.values_mut() {
            Arc::make_mut(service).affinity = Some(Duration::from_secs(60));
        }
        let (mut kernel, _node) = hold(net, &balanced(all.clone())).await;
        for vip in VIPS {
            let ask = || {
                let answers: Vec<_> = (0..20).map(|_| ask_tcp(at(vip, 80)).unwrap()).collect();
                let by: Vec<u8> = by_backend(&answers).into_keys().collect();
                assert_eq!(by.len(), 1, "{vip}");
                by[0]
            };
            let there = ask();
            let mut others = all.clone();
            for service in others.values_mut() {
                let backends = &mut Arc::make_mut(service).backends;
                for (number, backend) in (1..).zip(backends) {
                    backend.weight = if number == there { 1 } else { 256 };
                }
            }
            kernel.apply(&balanced(others)).await.unwrap();
            assert_eq!(ask(), there, "{vip}: it stays");
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn connections_of_the_holders_own_programs_go_on_where_the_virtual_ip_goes_away() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let (mut kernel, mut node) = hold(net, &wanted).await;
        let mut open: Vec<_> = VIPS
            .map(|vip| Connection::open(at(vip, 80)).unwrap())
            .into();
        let mut each = |when: &str| {
            for connection in &mut open {
                assert_eq!(connection.ask(when).unwrap().text, when);
            }
        };
        each("held");
        node.set_deadline(1);
        each("the lease is over");
        assert_eq!(
            ask_tcp(at(VIP4, 80)).unwrap().backend,
            1,
            "nor does a new one speak as it"
        );
        let elsewhere = Wanted {
            addresses: [].into(),
            ..wanted
        };
        kernel.apply(&elsewhere).await.unwrap();
        assert!(!net.addresses().contains(VIP4));
        each("it has gone");
        let own = any(VIP4);
        let gone = TcpStream::connect_timeout(&at(VIP4, 80), Duration::from_millis(200));
        assert!(
            gone.is_err(),
            "what is not here is asked for on the network"
        );
        drop(own);
        kernel.remove().await.unwrap();
        each("vipd has gone");
    });
}

#[test]
fn a_new_daemon_takes_over_and_without_services_nothing_stays_at_the_hosts_sockets() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let pins = |net: &Net| {
            let found = std::process::Command::new("find")
                .arg(&net.pins)
                .output()
                .unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            found
                .lines()
                .filter(|pin| pin.contains("links/connect"))
                .count()
        };
        let (kernel, _node) = hold(net, &wanted).await;
        let socket = any(VIP6);
        assert_eq!(ask_unconnected(&socket, at(VIP6, 80)).backend, 1);
        drop(kernel);
        assert_eq!(
            ask_tcp(at(VIP4, 80)).unwrap().backend,
            1,
            "without a daemon"
        );
        let (mut kernel, _node) = hold(net, &wanted).await;
        assert_eq!(ask_tcp(at(VIP4, 80)).unwrap().backend, 1);
        assert_eq!(ask_unconnected(&socket, at(VIP6, 80)).backend, 1);
        assert_eq!(pins(net), 2);
        kernel.apply(&balanced(Services::new())).await.unwrap();
        assert_eq!(pins(net), 0);
        let refused = TcpStream::connect(at(VIP4, 80)).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::ConnectionRefused,
            "the host's own"
        );
        kernel.remove().await.unwrap();
    });
}

#[test]
fn where_one_of_the_programs_cannot_be_there_none_is_and_other_clients_are_served() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let (mut kernel, _node) = hold(net, &Wanted::default()).await;
        let links = net.pins.join(format!("v{SCHEMA}/links"));
        // In the way of the pin of one in the middle.
        std::fs::create_dir(links.join("sendmsg6")).unwrap();
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        kernel.apply(&wanted).await.unwrap();
        assert!(
            !links.join("connect4").exists(),
            "those before it went again"
        );
        let refused = TcpStream::connect(at(VIP4, 80)).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::ConnectionRefused,
            "the host's own"
        );
        for answers in ask_all(net, VIP4, 80, 3) {
            assert_eq!(by_backend(&answers), [(1, 3)].into());
        }
        std::fs::remove_dir(links.join("sendmsg6")).unwrap();
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_backend_may_be_a_client_of_the_virtual_ip_that_it_serves() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let (kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(11, 1)]))).await;
        for vip in VIPS {
            let (backend, to) = (lan.backend(1), at(vip, 80));
            let ask = move || {
                enter(&backend);
                let tcp = Connection::open(to)
                    .and_then(|mut it| it.ask("who"))
                    .unwrap();
                let (udp, _socket) = ask_udp(to, "who").unwrap();
                [tcp, udp]
            };
            for answer in std::thread::spawn(ask).join().unwrap() {
                assert_eq!(answer.backend, 1);
                assert_eq!(answer.asker.ip(), to.ip(), "not {}", backend_address(vip));
            }
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_program_in_another_network_namespace_is_none_of_its_business() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let (kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(11, 1)]))).await;
        // The same address, in a namespace of its own.
        let name = format!("{}o", net.host());
        support::run("ip", &["netns", "add", &name]);
        let inside = name.clone();
        let there = move || {
            enter(&inside);
            support::run("ip", &["link", "set", "lo", "up"]);
            support::run("ip", &["addr", "add", VIP4, "dev", "lo"]);
            let listener = TcpListener::bind(at(VIP4, 80)).unwrap();
            let stream = TcpStream::connect(at(VIP4, 80)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            (stream.peer_addr().unwrap(), accepted.local_addr().unwrap())
        };
        let found = std::thread::spawn(there).join();
        support::run("ip", &["netns", "del", &name]);
        assert_eq!(found.unwrap(), (at(VIP4, 80), at(VIP4, 80)));
        kernel.remove().await.unwrap();
    });
}
