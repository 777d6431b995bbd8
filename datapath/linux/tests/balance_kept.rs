//! Backends that see clients' own addresses, as clients and backends meet it: real sockets. The holder is the backends' router.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use support::{
    Net, VIP4,
    clients::{VIPS, ask_all, at, by_backend, client_address, hold},
    enter,
    lan::{Lan, PATIENCE, balanced, services},
    run, with_net,
};
use vipd_datapath::{Datapath, FlowFilter, Forward, Packet, Protocol, Verdict, Wanted};

/// Where a backend speaks first.
const PUSH: u16 = 8080;

fn keeping(backends: &[(u8, u32)]) -> Wanted {
    let mut all = services(Forward::Nat, backends);
    for service in all.values_mut() {
        Arc::make_mut(service).keep = true;
    }
    balanced(all)
}

fn far(vip: &str) -> IpAddr {
    let far = if vip == VIP4 { "10.8.0.2" } else { "fd08::2" };
    far.parse().unwrap()
}

/// The client asks from another subnet from now on, which the host is a router to. The host itself forwards nothing.
fn client_goes_far(net: &Net, lan: &Lan, backends: u8) {
    let host = net.host();
    run(
        "ip",
        &["-n", &host, "addr", "add", "10.8.0.1/24", "dev", "lan"],
    );
    run(
        "ip",
        &[
            "-n",
            &host,
            "addr",
            "add",
            "fd08::1/64",
            "dev",
            "lan",
            "nodad",
        ],
    );
    for setting in ["ipv4.ip_forward=0", "ipv6.conf.all.forwarding=0"] {
        run("sysctl", &["-qw", &format!("net.{setting}")]);
    }
    for (vip, own, length) in [(VIPS[0], "10.8.0.2", 24), (VIPS[1], "fd08::2", 64)] {
        let own_with_length = format!("{own}/{length}");
        let mut add = vec!["ip", "addr", "add", &own_with_length, "dev", "lan"];
        if length == 64 {
            add.push("nodad");
        }
        assert!(net.client_does(&add));
        assert!(net.client_does(&["ip", "route", "add", vip, "dev", "lan", "src", own]));
    }
    for number in 1..=backends {
        for gateway in ["10.9.0.1", "fd09::1"] {
            let backend = lan.backend(number);
            run(
                "ip",
                &["-n", &backend, "route", "add", "default", "via", gateway],
            );
        }
    }
}

#[test]
fn backends_see_clients_whom_they_answer_by_this_host_and_the_virtual_ip_for_others() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let _servers: Vec<_> = (1..=2).map(|n| lan.serve(n, 8080)).collect();
        let (mut kernel, _node) = hold(net, &keeping(&[(11, 1), (12, 1)])).await;
        let all_see = |vip: &'static str, whom: IpAddr| {
            for answers in ask_all(net, vip, 80, 40) {
                assert_eq!(by_backend(&answers).len(), 2, "{vip}");
                for answer in answers {
                    assert_eq!(answer.asker.ip(), whom, "{vip} {answer:?}");
                }
            }
        };
        for vip in VIPS {
            // On the backends' own link: they would answer past this host.
            all_see(vip, at(vip, 0).ip());
        }
        client_goes_far(net, &lan, 2);
        let lens = kernel.lens().unwrap();
        for vip in VIPS {
            all_see(vip, far(vip));
            let of = FlowFilter {
                client: Some(far(vip)),
                nat: true,
                ..FlowFilter::default()
            };
            let found = lens.flows(&of, 1_000).unwrap();
            assert_eq!((found.matching, found.flows.len()), (80, 80), "{vip}");
            assert!(found.flows.iter().all(|flow| flow.source.is_none()));
            assert!(found.flows.iter().all(|flow| flow.to_client.0 > 0));
            for (client, seen) in [(far(vip), far(vip)), (client_address(vip), at(vip, 0).ip())] {
                let packet = Packet {
                    client: (client, 1_000),
                    vip: (vip.parse().unwrap(), 80),
                    protocol: Protocol::Tcp,
                    opens: true,
                };
                let traced = lens.trace(&packet).unwrap();
                assert_eq!(traced.verdict, Verdict::Sent, "{traced:?}");
                assert_eq!(traced.source, (seen, 1_000), "{traced:?}");
            }
        }
        let seen = lens.services(None).unwrap();
        assert!(seen.iter().all(|service| service.keeps), "{seen:?}");
        drop(lens);
        kernel.remove().await.unwrap();
    });
}

/// A connection of the client, and its end at the backend.
fn connected(net: &Net, listener: &TcpListener, vip: &'static str) -> [TcpStream; 2] {
    let client = net.at_client(move || TcpStream::connect_timeout(&at(vip, 80), PATIENCE).unwrap());
    let (server, asker) = listener.accept().unwrap();
    assert_eq!(asker.ip().to_canonical(), far(vip));
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    [client, server]
}

fn says(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4]) {
    from.write_all(word).unwrap();
    let mut heard = [0; 4];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, word);
}

#[test]
fn a_next_holder_that_was_told_nothing_goes_on_with_connections_whoever_speaks_first() {
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        client_goes_far(net, &lan, 2);
        let namespace = lan.backend(1);
        let listener = thread::spawn(move || {
            enter(&namespace);
            TcpListener::bind(("::", PUSH)).unwrap()
        });
        let listener = listener.join().unwrap();
        let wanted = keeping(&[(11, 1)]);
        let (kernel, node) = hold(net, &wanted).await;
        let mut open: Vec<_> = [false, true]
            .into_iter()
            .flat_map(|backend_first| VIPS.map(|vip| (backend_first, vip)))
            .map(|(backend_first, vip)| (backend_first, connected(net, &listener, vip)))
            .collect();
        for (_, [client, server]) in &mut open {
            says(client, server, b"ask ");
            says(server, client, b"told");
        }
        // All that a holder knows goes with it; the next one has empty maps.
        drop(node);
        kernel.remove().await.unwrap();
        let (kernel, _node) = hold(net, &wanted).await;
        for (backend_first, [client, server]) in &mut open {
            if *backend_first {
                says(server, client, b"push");
            }
            says(client, server, b"more");
            says(server, client, b"done");
        }
        kernel.remove().await.unwrap();
    });
}
