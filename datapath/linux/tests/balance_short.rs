//! XDP in front of ingress on a real interface, a veth that is told to behave like a network card: who gets it and who does not,
//! what it carries, and that it is silent with the lease.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::{Xdp as Program, XdpMode};
use support::bench::object;
use support::clients::{VIPS, at, opened};
use support::lan::{Lan, ask_udp, balanced, services};
use support::short::forward;
use support::{Net, SECOND, enter, run, with_net};
use vipd_datapath::{
    Datapath, Dispatch, Forward, HookSeen, Kernel, NodeGate, Options, Wanted, Xdp, boottime_ns,
    verified,
};
use vipd_datapath_common::{SCHEMA, program};

const PATIENCE: Duration = Duration::from_secs(5);

/// Frames as from a wire: checksums are filled in by whoever sends. And the switch has a program of its own that passes all,
/// without which a veth does not take what XDP sends; for as long as this is held.
fn like_cards(net: &Net, lan: &Lan, backends: u8) -> Ebpf {
    let others = (1..=backends).map(|number| lan.backend(number));
    for namespace in others.chain([net.host(), net.client()]) {
        let sums = [
            "netns", "exec", &namespace, "ethtool", "-K", "lan", "tx", "off",
        ];
        run("ip", &sums);
    }
    forward(true);
    let switch = format!("{}s", net.host());
    let port = thread::spawn(move || {
        enter(&switch);
        attached("p1", XdpMode::Driver)
    });
    port.join().unwrap()
}

/// An XDP program of somebody else on an interface: vipd's own, which knows of no address here and so passes all.
fn attached(interface: &str, mode: XdpMode) -> Ebpf {
    let mut ebpf = Ebpf::load(&object()).unwrap();
    let program: &mut Program = ebpf.program_mut(program::XDP).unwrap().try_into().unwrap();
    verified(|| program.load()).unwrap();
    program.attach(interface, mode).unwrap();
    ebpf
}

async fn daemon(net: &Net, xdp: Xdp, wanted: &Wanted) -> (Kernel, Box<dyn NodeGate>) {
    let options = Options {
        pin_dir: net.pins.clone(),
        xdp,
        ..Options::default()
    };
    let mut kernel = Kernel::open_with(options).await.unwrap();
    kernel.apply(wanted).await.unwrap();
    let mut node = kernel.node_gate().unwrap();
    node.set_deadline(boottime_ns() + 300 * SECOND);
    (kernel, node)
}

fn hook(kernel: &mut Kernel) -> HookSeen {
    let mut hooks = kernel.lens().unwrap().hooks();
    assert_eq!(hooks.len(), 1, "{hooks:?}");
    hooks.remove(0)
}

fn text(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `lan` has an XDP program in its driver. The kernel lets go of a link a moment after its last user.
fn has_xdp() -> bool {
    text("ip", &["-d", "link", "show", "dev", "lan"]).contains("prog/xdp")
}

fn wait_until_gone() {
    let begin = Instant::now();
    while has_xdp() {
        assert!(begin.elapsed() < PATIENCE, "XDP is still there");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Packets that XDP has sent out of `lan` again.
fn short_way() -> u64 {
    let all = text("ethtool", &["-S", "lan"]);
    let sent = all.lines().filter_map(|line| {
        let (name, count) = line.split_once(": ")?;
        name.ends_with("_xdp_tx")
            .then(|| count.trim().parse::<u64>().unwrap())
    });
    sent.sum()
}

#[test]
fn open_connections_take_the_short_way_and_nothing_is_lost_or_miscounted() {
    const LINES: usize = 100;
    with_net(|net| async move {
        let lan = Lan::new(net, 2);
        let _switch = like_cards(net, &lan, 2);
        for (how, port) in [(Forward::Nat, 8080), (Forward::Dsr(Dispatch::L2), 80)] {
            if how != Forward::Nat {
                [1, 2]
                    .iter()
                    .for_each(|number| lan.prepare_for_dsr(*number));
            }
            let _servers = [1, 2].map(|number| lan.serve(number, port));
            let wanted = balanced(services(how, &[(11, 1), (12, 1)]));
            let (mut kernel, _node) = daemon(net, Xdp::Force, &wanted).await;
            let seen = hook(&mut kernel);
            assert!(seen.xdp && seen.interface == "lan" && has_xdp(), "{seen:?}");
            for vip in VIPS {
                let before = short_way();
                let mut connections = opened(net, vip, 4);
                for line in 0..LINES {
                    for (backend, connection) in &mut connections {
                        let answer = connection.ask(&format!("line {line}")).unwrap();
                        assert_eq!(
                            (answer.text, answer.backend),
                            (format!("line {line}"), *backend)
                        );
                    }
                }
                // Each line is a packet to the backend, at least; with nat also one back.
                let (sent, least) = (short_way() - before, 4 * LINES as u64);
                let least = if how == Forward::Nat {
                    2 * least
                } else {
                    least
                };
                assert!(sent > least * 9 / 10, "{how:?} {vip}: {sent} of {least}");
                let services = kernel.lens().unwrap().services(None).unwrap();
                let of_vip = services.iter().find(|it| {
                    it.frontend == support::lan::frontend(vip, 80, vipd_datapath::Protocol::Tcp)
                });
                let traffic = &of_vip.unwrap().traffic;
                assert!(traffic.packets_in >= 4 * LINES as u64, "{traffic:?}");
                assert_eq!(
                    (traffic.packets_out > 0, traffic.flows),
                    (how == Forward::Nat, 4)
                );
            }
            if how == Forward::Nat {
                for vip in VIPS {
                    let (answer, _socket) =
                        net.at_client(move || ask_udp(at(vip, 80), "hello").unwrap());
                    assert_eq!(answer.text, "hello");
                }
            }
            kernel.remove().await.unwrap();
            wait_until_gone();
        }
    });
}

#[test]
fn with_the_lease_the_short_way_ends_too() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _switch = like_cards(net, &lan, 1);
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let (kernel, mut node) = daemon(net, Xdp::Force, &wanted).await;
        for vip in VIPS {
            let (_, mut connection) = opened(net, vip, 1).remove(0);
            let begun = short_way();
            for line in 0..20 {
                connection.ask(&format!("{line}")).unwrap();
            }
            assert!(short_way() > begun, "{vip}");
            node.set_deadline(boottime_ns());
            let before = short_way();
            // What it sends again and again for half a second goes nowhere.
            let (silent, mut connection) = net.at_client(move || {
                let asked = connection.ask_within("too late", Duration::from_millis(500));
                (asked.is_err(), connection)
            });
            assert!(silent, "{vip}: answered after the lease");
            assert_eq!(short_way(), before, "{vip}: sent on after the lease");
            node.set_deadline(boottime_ns() + 300 * SECOND);
            assert!(
                net.at_client(move || connection.answer().is_ok()),
                "{vip}: TCP tries again"
            );
        }
        kernel.remove().await.unwrap();
    });
}

#[test]
fn it_outlives_the_daemon_and_goes_when_it_is_no_longer_wanted() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _switch = like_cards(net, &lan, 1);
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        drop(daemon(net, Xdp::Force, &wanted).await);
        assert!(has_xdp());
        let (_, mut connection) = opened(net, VIPS[0], 1).remove(0);
        for round in 0..3 {
            let before = short_way();
            for line in 0..20 {
                connection.ask(&format!("{line}")).unwrap();
            }
            assert!(short_way() > before, "without a daemon");
            let (mut kernel, _node) = daemon(net, Xdp::Force, &wanted).await;
            assert!(hook(&mut kernel).xdp, "{round}");
            connection.ask("taken over").unwrap();
        }
        let (mut kernel, _node) = daemon(net, Xdp::Off, &wanted).await;
        wait_until_gone();
        let seen = hook(&mut kernel);
        assert!(!seen.xdp && seen.why.contains("vipd.toml"), "{seen:?}");
        connection.ask("by the long way").unwrap();
        kernel.remove().await.unwrap();
    });
}

#[test]
fn where_it_can_not_be_had_the_others_do_all_and_it_is_said_why() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        drop(like_cards(net, &lan, 1));
        let _server = lan.serve(1, 8080);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let check = async |xdp, why: &str| {
            let (mut kernel, _node) = daemon(net, xdp, &wanted).await;
            let seen = hook(&mut kernel);
            assert!(!seen.xdp && seen.why.contains(why), "{why}: {seen:?}");
            opened(net, VIPS[0], 1);
            kernel.remove().await.unwrap();
        };
        check(Xdp::Auto, "no network card").await;
        forward(false);
        check(Xdp::Force, "forwarding is off").await;
        forward(true);
        // More than one page of memory carries.
        let far = format!("{}s", net.host());
        run("ip", &["-n", &far, "link", "set", "p1", "mtu", "9000"]);
        check(Xdp::Force, "MTU").await;
        run("ip", &["-n", &far, "link", "set", "p1", "mtu", "1500"]);
        let _other = attached("lan", XdpMode::Skb);
        check(Xdp::Force, "somebody else").await;
    });
}

/// Has a datapath look at all interfaces again: another one has come.
async fn look_again(kernel: &mut Kernel, wanted: &Wanted) -> HookSeen {
    let pair = [
        "link", "add", "another", "type", "veth", "peer", "name", "its_peer",
    ];
    run("ip", &pair);
    let mut wanted = wanted.clone();
    wanted.interfaces.insert("another".to_owned());
    kernel.apply(&wanted).await.unwrap();
    let mut hooks = kernel.lens().unwrap().hooks();
    assert_eq!(hooks.len(), 2, "{hooks:?}");
    hooks.retain(|it| it.interface == "lan");
    hooks.remove(0)
}

#[test]
fn why_it_could_not_be_had_is_still_said_at_the_next_look() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _switch = like_cards(net, &lan, 1);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        let _other = attached("lan", XdpMode::Skb);
        let (mut kernel, _node) = daemon(net, Xdp::Force, &wanted).await;
        let first = hook(&mut kernel);
        assert!(first.why.contains("somebody else"), "{first:?}");
        assert_eq!(look_again(&mut kernel, &wanted).await, first);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn where_it_is_nothing_but_off_takes_it_away() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _switch = like_cards(net, &lan, 1);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        drop(daemon(net, Xdp::Force, &wanted).await);
        // What the host says is reason enough not to begin: no card, and nothing is forwarded.
        forward(false);
        let (mut kernel, _node) = daemon(net, Xdp::Auto, &wanted).await;
        assert!(hook(&mut kernel).xdp && has_xdp());
        let seen = look_again(&mut kernel, &wanted).await;
        assert!(seen.xdp && has_xdp(), "{seen:?}");
        drop(kernel);
        let (kernel, _node) = daemon(net, Xdp::Off, &wanted).await;
        wait_until_gone();
        kernel.remove().await.unwrap();
    });
}

#[test]
fn a_link_whose_program_can_not_be_replaced_stays_and_that_is_said_at_each_look() {
    with_net(|net| async move {
        let lan = Lan::new(net, 1);
        let _switch = like_cards(net, &lan, 1);
        let wanted = balanced(services(Forward::Nat, &[(11, 1)]));
        drop(daemon(net, Xdp::Off, &wanted).await);
        // A link that takes no XDP program: that of ingress.
        let ifindex = nix::net::if_::if_nametoindex("lan").unwrap();
        let links = net.pins.join(format!("v{SCHEMA}/links"));
        let pin = |kind| links.join(format!("{kind}_{ifindex}"));
        std::fs::rename(pin("ingress"), pin("xdp")).unwrap();
        let (mut kernel, _node) = daemon(net, Xdp::Force, &wanted).await;
        let first = hook(&mut kernel);
        assert!(
            first.xdp && first.why.contains("cannot be replaced"),
            "{first:?}"
        );
        assert_eq!(look_again(&mut kernel, &wanted).await, first);
        assert!(pin("xdp").exists());
        kernel.remove().await.unwrap();
    });
}
