//! Load balancing as clients and backends meet it: real sockets, through the virtual IPs, in each mode.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::time::Duration;

use support::{
    VIP4, VIP6,
    clients::{VIPS, ask_all, at, by_backend, client_address, hold, opened},
    lan::{Connection, Lan, balanced, frontend, service, services},
    run, wanted, with_net,
};
use vipd_datapath::{
    Datapath, Dispatch, Forward, Gate, Kernel, Protocol, Services, Wanted, WantedAddress,
};

#[test]
fn nat_spreads_connections_over_backends_that_see_the_virtual_ip() {
    const COUNT: usize = 160;
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let wanted = balanced(services(Forward::Nat, &[(11, 1), (12, 1), (13, 2)]));
        let (mut kernel, _node) = hold(net, &wanted).await;
        for vip in VIPS {
            for answers in ask_all(net, vip, 80, COUNT) {
                let found = by_backend(&answers);
                assert_eq!(
                    found.keys().copied().collect::<Vec<_>>(),
                    [1, 2, 3],
                    "{found:?}"
                );
                // Half of them by weight, and a third without; chance alone is that far off once in 100,000 times.
                assert!(found[&3] > COUNT / 3, "{found:?}");
                assert!(
                    answers
                        .iter()
                        .all(|answer| answer.asker.ip() == at(vip, 0).ip())
                );
            }
        }
        let lens = kernel.lens().unwrap();
        for service in lens.services(None).unwrap() {
            let traffic = &service.traffic;
            assert_eq!(traffic.flows, COUNT as u64, "{service:?}");
            assert!(traffic.packets_in >= COUNT as u64 && traffic.packets_out >= COUNT as u64);
            assert!(
                service.traffic.drops.values().all(|count| *count == 0),
                "{service:?}"
            );
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_client_may_speak_from_an_address_that_another_node_holds() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        for (how, port) in [(Forward::Nat, 8080), (Forward::Dsr(Dispatch::L2), 80)] {
            let _servers: Vec<_> = if how == Forward::Nat {
                vec![lan.serve(1, port)]
            } else {
                lan.prepare_for_dsr(1);
                VIPS.map(|vip| lan.serve_at(1, vip, port)).into()
            };
            let mut wanted = balanced(services(how, &[(11, 1)]));
            for vip in VIPS {
                let elsewhere = WantedAddress {
                    interface: "lan".to_owned(),
                    gate: Gate::Shut,
                    epoch: 1,
                };
                wanted.addresses.insert(client_address(vip), elsewhere);
            }
            let (kernel, _node) = hold(net, &wanted).await;
            for vip in VIPS {
                for answers in ask_all(net, vip, 80, 3) {
                    assert_eq!(by_backend(&answers), [(1, 3)].into(), "{how:?} {vip}");
                }
            }
            kernel.remove().await.unwrap();
        }
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
        let wanted = balanced(services(Forward::Dsr(Dispatch::L2), &[(11, 1), (12, 1)]));
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
        let (mut kernel, _node) = hold(net, &standby(Forward::Dsr(Dispatch::L2))).await;
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

#[test]
fn a_client_stays_with_its_backend_by_affinity_and_is_refused_outside_the_ranges() {
    with_net(|net| async move {
        let lan = Lan::new(net, 3);
        let _servers: Vec<_> = (1..=3).map(|n| lan.serve(n, 8080)).collect();
        let with = |affinity: bool, ranges: &[(&str, u8)]| {
            let mut all = services(Forward::Nat, &[(11, 1), (12, 1), (13, 1)]);
            for service in all.values_mut() {
                let service = std::sync::Arc::make_mut(service);
                service.affinity = affinity.then_some(Duration::from_secs(60));
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
