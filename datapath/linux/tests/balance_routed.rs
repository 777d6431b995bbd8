//! nat to backends that are not on the link of their holder: real sockets, through a real router.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use support::{
    Net,
    clients::{VIPS, ask_all, at, by_backend, hold, opened},
    lan::{Lan, balanced, nat_to},
    run, with_net,
};
use vipd_datapath::Datapath;

/// The backend behind the router, by family.
const BEHIND: [&str; 2] = ["10.8.0.12", "fd08::12"];

/// Takes the second backend off the switch and puts it behind the first one, which is a router from now on; the holder
/// alone knows that way.
fn put_behind(net: &Net, lan: &Lan) {
    let (router, behind) = (lan.backend(1), lan.backend(2));
    run("ip", &["-n", &behind, "link", "del", "lan"]);
    let pair = [
        "-n", &router, "link", "add", "far", "type", "veth", "peer", "name", "lan", "netns",
        &behind,
    ];
    run("ip", &pair);
    for (namespace, device, v4, v6) in [
        (&router, "far", "10.8.0.1/24", "fd08::1/64"),
        (&behind, "lan", "10.8.0.12/24", "fd08::12/64"),
    ] {
        run("ip", &["-n", namespace, "link", "set", device, "up"]);
        run("ip", &["-n", namespace, "addr", "add", v4, "dev", device]);
        let add = ["-n", namespace, "addr", "add", v6, "dev", device, "nodad"];
        run("ip", &add);
    }
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
        let setting = format!("net.{setting}");
        run("ip", &["netns", "exec", &router, "sysctl", "-qw", &setting]);
    }
    for (family, router, subnet, gate) in [
        ("-4", "10.8.0.1", "10.8.0.0/24", "10.9.0.11"),
        ("-6", "fd08::1", "fd08::/64", "fd09::11"),
    ] {
        run(
            "ip",
            &[
                "-n", &behind, family, "route", "add", "default", "via", router,
            ],
        );
        run(
            "ip",
            &[
                "-n",
                &net.host(),
                family,
                "route",
                "add",
                subnet,
                "via",
                gate,
            ],
        );
    }
}

#[test]
fn nat_reaches_a_backend_behind_a_router_and_its_answers_come_back_through_the_holder() {
    const COUNT: usize = 20;
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        put_behind(net, &lan);
        let _servers = [lan.serve(1, 8080), lan.serve(2, 8080)];
        let mut services = nat_to(VIPS[0], &[BEHIND[0]]);
        services.extend(nat_to(VIPS[1], &[BEHIND[1]]));
        let (mut kernel, _node) = hold(net, &balanced(services)).await;
        assert!(kernel.observe().await.unwrap().left_out.is_empty());
        for vip in VIPS {
            for answers in ask_all(net, vip, 80, COUNT) {
                assert_eq!(by_backend(&answers), [(2, COUNT)].into(), "{vip}");
                let seen = answers.iter().map(|answer| answer.asker.ip());
                assert!(seen.eq([at(vip, 0).ip(); COUNT]), "{answers:?}");
            }
        }
        let lens = kernel.lens().unwrap();
        for service in lens.services(None).unwrap() {
            let traffic = &service.traffic;
            // A connection whose first packet had to be sent again, while the router asked for its neighbour, has begun twice.
            assert!(traffic.flows >= COUNT as u64, "{service:?}");
            assert!(traffic.packets_out >= COUNT as u64, "{service:?}");
            assert!(
                traffic.drops.values().all(|count| *count == 0),
                "{service:?}"
            );
        }

        // The router beside the one behind it: each by the way that leads to it.
        let mut both = nat_to(VIPS[0], &[BEHIND[0], "10.9.0.11"]);
        both.extend(nat_to(VIPS[1], &[BEHIND[1], "fd09::11"]));
        let mut stay = VIPS.map(|vip| opened(net, vip, 1).remove(0));
        kernel.apply(&balanced(both)).await.unwrap();
        for vip in VIPS {
            for answers in ask_all(net, vip, 80, 40) {
                assert_eq!(by_backend(&answers).len(), 2, "{vip}");
            }
        }
        for (backend, connection) in &mut stay {
            let answer = connection.ask("still there?").unwrap();
            assert_eq!((answer.backend, *backend), (2, 2), "{answer:?}");
        }
        kernel.remove().await.unwrap();
    });
}
