//! Packets that wait, behind the ingress program, for a neighbour to answer: the lease may end meanwhile.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use support::clients::{VIPS, at, backend_address, hold};
use support::lan::{Lan, balanced, services};
use support::{counters, run, with_net};
use vipd_datapath::{Datapath, Dispatch, Forward};
use vipd_datapath_common::Counter;

/// The MAC of the first backend.
const MAC: &str = "02:00:00:00:00:0b";
const PATIENCE: Duration = Duration::from_secs(5);

/// Until the host asks for the backend's MAC.
fn wait_until_asked(backend: &str) {
    let begin = Instant::now();
    loop {
        let show = ["neigh", "show", backend, "dev", "lan"];
        let output = Command::new("ip").args(show).output().unwrap();
        if String::from_utf8(output.stdout)
            .unwrap()
            .contains("INCOMPLETE")
        {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody asks for {backend}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_waits_for_a_neighbour_leaves_only_if_the_lease_has_not_ended_meanwhile() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        // The backend hears no question for its MAC, only what is sent to that.
        let port = ["-n", &format!("{}s", net.host()), "link", "set", "p11"];
        let deaf = [
            "type",
            "bridge_slave",
            "bcast_flood",
            "off",
            "mcast_flood",
            "off",
        ];
        run("ip", &[&port[..], &deaf].concat());
        let dsr = [Dispatch::L2, Dispatch::Ipip, Dispatch::Gue].map(|by| (Forward::Dsr(by), 80));
        for (how, listens) in [(Forward::Nat, 8080)].into_iter().chain(dsr) {
            if how == Forward::Dsr(Dispatch::L2) {
                lan.prepare_for_dsr(1);
            }
            let (mut kernel, mut node) = hold(net, &balanced(services(how, &[(11, 1)]))).await;
            let socket = lan.socket(1, listens);
            for vip in VIPS {
                let backend = backend_address(vip).to_string();
                // What comes inside others is not taken apart here: only whether it is stopped is looked at.
                let plain = matches!(how, Forward::Nat | Forward::Dsr(Dispatch::L2));
                for over in [false, true].into_iter().filter(|over| *over || plain) {
                    let name = format!("{how:?} {vip} over: {over}");
                    let before = counters(&mut kernel);
                    run("ip", &["neigh", "flush", "dev", "lan"]);
                    let _asker = net.at_client(move || {
                        let any = if at(vip, 0).is_ipv4() {
                            "0.0.0.0"
                        } else {
                            "::"
                        };
                        let socket = UdpSocket::bind(at(any, 0)).unwrap();
                        socket.send_to(b"hello", at(vip, 80)).unwrap();
                        socket
                    });
                    wait_until_asked(&backend);
                    if over {
                        node.set_deadline(0);
                    }
                    let answer = ["lladdr", MAC, "dev", "lan", "nud", "reachable"];
                    run(
                        "ip",
                        &[&["neigh", "replace", &backend][..], &answer].concat(),
                    );
                    let stopped = |counts: &vipd_datapath::Counts| {
                        counts[&at(vip, 0).ip()][Counter::DroppedEgress.name()]
                    };
                    if over {
                        let begin = Instant::now();
                        while stopped(&counters(&mut kernel)) == stopped(&before) {
                            assert!(begin.elapsed() < PATIENCE, "{name}: it was not stopped");
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        node.set_deadline(vipd_datapath::boottime_ns() + 300 * support::SECOND);
                    } else {
                        socket.set_read_timeout(Some(PATIENCE)).unwrap();
                        let mut text = [0; 16];
                        let (length, _) = socket.recv_from(&mut text).expect(&name);
                        assert_eq!(&text[..length], b"hello", "{name}");
                        assert_eq!(stopped(&counters(&mut kernel)), stopped(&before));
                    }
                }
            }
            socket
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            let late = socket.recv_from(&mut [0; 16]);
            assert!(late.is_err(), "{how:?}: {late:?} came after the lease");
            kernel.remove().await.unwrap();
        }
    });
}
