//! Path MTU discovery through a balanced address: a backend learns from a router on the client's side.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use support::lan::{Lan, ask_udp, balanced, services};
use support::segment::{Segment, Transport, too_big};
use support::wire::send_from_client;
use support::{SECOND, VIP4, VIP6, with_net};
use vipd_datapath::{Datapath, Forward, Kernel, boottime_ns};

/// What the kernel of the backend says of its way to an address.
fn route(lan: &Lan, to: &str) -> String {
    let arguments = ["-n", &lan.backend(1), "route", "get", to];
    let output = std::process::Command::new("ip")
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_backend_sends_smaller_packets_once_a_router_of_the_client_says_too_big() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _server = lan.serve(1, 8080);
        let mut kernel = Kernel::open(&net.pins).await.unwrap();
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        kernel.apply(&wanted).await.unwrap();
        let mut node = kernel.node_gate().unwrap();
        node.set_deadline(boottime_ns() + 300 * SECOND);
        for (vip, client) in [(VIP4, "10.9.0.2"), (VIP6, "fd09::2")] {
            let service = SocketAddr::new(vip.parse().unwrap(), 80);
            let client: IpAddr = client.parse().unwrap();
            let (_, socket) = net.at_client(move || ask_udp(service, "hello").unwrap());
            let asker = SocketAddr::new(client, socket.local_addr().unwrap().port());
            assert!(!route(&lan, vip).contains("mtu"), "{}", route(&lan, vip));

            let answer = Segment::new(service, asker, Transport::Udp);
            send_from_client(net, vec![too_big(client, service.ip(), 64, &answer, 1_000)]);
            let begin = Instant::now();
            while !route(&lan, vip).contains("mtu 1400") {
                let waited = begin.elapsed();
                assert!(
                    waited < Duration::from_secs(10),
                    "{vip}: {}",
                    route(&lan, vip)
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        kernel.remove().await.unwrap();
    });
}
