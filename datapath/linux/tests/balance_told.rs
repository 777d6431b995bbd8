//! What clients hear from the holder itself of packets that it cannot send on, with real sockets and programs.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::clients::{VIPS, at, hold};
use support::lan::{Lan, ask_udp, balanced, frontend, services};
use support::{Net, VIP4, run, with_net};
use vipd_datapath::{Datapath, Forward, Protocol, Services, Wanted, WantedBackend, WantedService};

/// What the link to the backend carries, in bytes of IP; the others carry 1500.
const CARRIES: u32 = 1300;
/// A datagram that fits the link of the client and no smaller one, over IPv4 and IPv6.
const LONG: usize = 1440;

/// Takes the first backend out of the switch, and gives it a link of its own to the host.
fn behind_a_small_link(net: &Net, lan: &Lan) {
    let (host, backend, mtu) = (net.host(), lan.backend(1), CARRIES.to_string());
    let pair = [
        "-n", &host, "link", "add", "small", "mtu", &mtu, "type", "veth", "peer", "name", "small",
        "mtu", &mtu, "netns", &backend,
    ];
    run("ip", &pair);
    run("ip", &["-n", &backend, "link", "set", "lan", "down"]);
    for (namespace, last) in [(&host, 1), (&backend, 2)] {
        run("ip", &["-n", namespace, "link", "set", "small", "up"]);
        let (v4, v6) = (format!("10.8.0.{last}/24"), format!("fd08::{last}/64"));
        run("ip", &["-n", namespace, "addr", "add", &v4, "dev", "small"]);
        let v6 = ["-n", namespace, "addr", "add", &v6, "dev", "small", "nodad"];
        run("ip", &v6);
    }
    for route in [
        ["default", "via", "10.8.0.1"],
        ["default", "via", "fd08::1"],
    ] {
        run(
            "ip",
            &[&["-n", &backend, "route", "add"][..], &route].concat(),
        );
    }
}

/// UDP port 80 of both virtual IPs, to that backend.
fn through_the_small_link() -> Wanted {
    let mut services = Services::new();
    for vip in VIPS {
        let backend = if vip == VIP4 { "10.8.0.2" } else { "fd08::2" };
        let service = WantedService {
            mode: Forward::Nat,
            backends: vec![WantedBackend {
                address: backend.parse().unwrap(),
                port: 8080,
                weight: 1,
                draining: false,
            }],
            keep: false,
            affinity: None,
            ranges: Vec::new(),
        };
        services.insert(frontend(vip, 80, Protocol::Udp), Arc::new(service));
    }
    let mut wanted = balanced(services);
    wanted.interfaces.insert("small".to_owned());
    wanted
}

/// What a command prints at the client.
fn at_client(net: &Net, command: &[&str]) -> String {
    let output = net.client_output(command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_client_sends_smaller_packets_once_the_holder_says_what_the_link_to_the_backend_carries() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        behind_a_small_link(net, &lan);
        let _server = lan.serve(1, 8080);
        let (kernel, _node) = hold(net, &through_the_small_link()).await;
        // The host finishes checksums itself, so that the client's kernel looks at them: also at that of an error about a
        // packet whose own was not finished when it came.
        run("ethtool", &["-K", "lan", "tx", "off"]);
        for vip in VIPS {
            let long = "x".repeat(LONG);
            let begin = Instant::now();
            let answer = loop {
                let asked = long.clone();
                // The first is lost: that is what the client is told.
                let found = net.at_client(move || {
                    ask_udp_within(Duration::from_millis(500), at(vip, 80), &asked)
                });
                if let Some(answer) = found {
                    break answer;
                }
                assert!(begin.elapsed() < Duration::from_secs(15), "{vip}");
            };
            assert_eq!(answer, LONG, "{vip}: all of it came back");
            let route = at_client(net, &["ip", "route", "get", vip]);
            assert!(route.contains(&format!("mtu {CARRIES}")), "{vip}: {route}");
        }
        kernel.remove().await.unwrap();
    });
}

/// Bytes of the text that came back, if any did in this time.
fn ask_udp_within(time: Duration, to: std::net::SocketAddr, text: &str) -> Option<usize> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(time)).unwrap();
    socket.connect(to).unwrap();
    // Too long, by what the kernel has just learned: not this time.
    socket.send(text.as_bytes()).ok()?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).ok()?;
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    answer.rsplit(' ').next().map(str::len)
}

#[test]
fn traceroute_shows_the_holder_as_a_hop_in_front_of_the_backend() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let (kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(11, 1)]))).await;
        for vip in VIPS {
            let asked = net.at_client(move || ask_udp(at(vip, 80), "who").map(|_| ()));
            asked.unwrap();
            for by in ["-T", "-U"] {
                let port = ["-n", "-q", "1", "-N", "1", "-w", "3", "-m", "5", "-p", "80"];
                let shown = at_client(net, &[&["traceroute", by][..], &port, &[vip]].concat());
                let hops: Vec<&str> = shown.lines().skip(1).collect();
                assert_eq!(hops.len(), 2, "{by} {vip}: {shown}");
                assert!(hops.iter().all(|hop| hop.contains(vip)), "{by}: {shown}");
            }
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_client_hears_at_once_that_a_port_of_a_backend_on_the_holder_is_shut() {
    with_net(|net| async move {
        let _lan = Lan::new(net, 0);
        let (kernel, _node) = hold(net, &balanced(services(Forward::Nat, &[(1, 1)]))).await;
        for vip in VIPS {
            let error = net.at_client(move || ask_udp(at(vip, 80), "who").err());
            let refused = Some(std::io::ErrorKind::ConnectionRefused);
            assert_eq!(error.map(|error| error.kind()), refused, "{vip}");
        }
        kernel.remove().await.unwrap();
    });
}
