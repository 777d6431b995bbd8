//! Whether somebody else on the link has an address: asked of real kernels.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use support::wire::{Tap, send_from_client};
use support::{MAC_CLIENT, MAC_HOST, SECOND, VIP4, VIP6, open, packet, run, vips, with_net};
use vipd_datapath::{Datapath, Gate, Heard, Kernel, Probe, Prober, Said};

/// How long the busiest machine may need.
const BOUND: Duration = Duration::from_secs(20);

fn probe(address: IpAddr) -> Probe {
    Probe {
        address,
        interface: "lan".into(),
        mac: MAC_HOST,
    }
}

/// Asks, and takes all the steps there are.
fn ask(kernel: &mut Kernel, addresses: &[IpAddr]) -> Vec<Heard> {
    let mut prober = kernel.prober().unwrap();
    let probes = addresses.iter().copied().map(probe).collect();
    prober.ask(probes, &BTreeSet::new());
    finish(&mut *prober)
}

fn finish(prober: &mut dyn Prober) -> Vec<Heard> {
    let (start, mut all) = (Instant::now(), Vec::new());
    while let Some(heard) = prober.step().unwrap() {
        all.extend(heard);
        assert!(start.elapsed() < BOUND, "{all:?}");
    }
    all.sort_by_key(|heard| heard.address);
    all
}

fn heard(said: Said) -> Vec<Heard> {
    let heard = vips().map(|address| Heard { address, said });
    heard.to_vec()
}

/// The client has both addresses.
fn taken(net: &support::Net) {
    let client = net.client();
    for (address, more) in [
        (format!("{VIP4}/24"), "dev"),
        (format!("{VIP6}/64"), "nodad"),
    ] {
        let all = ["-n", &client, "addr", "add", &address, "dev", "lan", more];
        run("ip", if more == "dev" { &all[..7] } else { &all });
    }
}

#[test]
fn an_address_that_nobody_has_is_free_after_three_questions_that_claim_nothing() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        let tap = Tap::at_client(net);
        let start = Instant::now();
        assert_eq!(ask(&mut kernel, &vips()), heard(Said::Free));
        let took = start.elapsed();
        println!("asked for {took:?}");
        assert!(took >= Duration::from_millis(200));
        let from_us = |frame: &[u8]| frame.get(6..12) == Some(&MAC_HOST);
        let frames = tap.collect(Duration::from_millis(50), from_us);
        let v4: IpAddr = VIP4.parse().unwrap();
        let arp = |frame: &[u8]| frame[12..14] == [8, 6];
        let IpAddr::V4(octets) = v4 else { panic!() };
        let asked = frames.iter().filter(|(_, frame)| {
            arp(frame) && frame[38..42] == octets.octets() && frame[28..32] == [0; 4]
        });
        assert_eq!(asked.count(), 3, "from nobody: {frames:?}");
        let solicitations = frames.iter().filter(|(_, frame)| {
            !arp(frame)
                && frame.len() >= 78
                && frame[54] == 135
                && frame[22..38] == [0; 16]
                && frame[62..78] == octets_of(VIP6)
        });
        assert_eq!(solicitations.count(), 3, "from ::: {frames:?}");
        let claims = frames
            .iter()
            .filter(|(_, frame)| arp(frame) && frame[28..32] == octets.octets());
        assert_eq!(claims.count(), 0);
    });
}

fn octets_of(address: &str) -> [u8; 16] {
    address.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

#[test]
fn an_address_that_a_host_has_is_told_with_its_mac_though_the_programs_keep_it_from_this_one() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        taken(net);
        let start = Instant::now();
        assert_eq!(ask(&mut kernel, &vips()), heard(Said::Taken(MAC_CLIENT)));
        println!("told after {:?}", start.elapsed());
    });
}

#[test]
fn an_address_is_free_again_when_the_host_has_let_go_of_it() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        taken(net);
        assert_eq!(ask(&mut kernel, &vips()), heard(Said::Taken(MAC_CLIENT)));
        for address in [format!("{VIP4}/24"), format!("{VIP6}/64")] {
            run(
                "ip",
                &["-n", &net.client(), "addr", "del", &address, "dev", "lan"],
            );
        }
        assert_eq!(ask(&mut kernel, &vips()), heard(Said::Free));
    });
}

#[test]
fn what_this_host_itself_answers_for_is_no_claim() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Open, 60 * SECOND).await;
        assert!(net.answers(VIP4));
        assert_eq!(ask(&mut kernel, &vips()), heard(Said::Free));
    });
}

#[test]
fn a_thousand_addresses_are_asked_about_side_by_side_and_those_in_use_are_found_among_them() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        let all: Vec<IpAddr> = (0..1000u16)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                IpAddr::from([10, 9, 4 + high, low])
            })
            .collect();
        let used = [7, 300, 999];
        for number in used {
            let address = format!("{}/32", all[number]);
            run(
                "ip",
                &["-n", &net.client(), "addr", "add", &address, "dev", "lan"],
            );
        }
        let start = Instant::now();
        let heard = ask(&mut kernel, &all);
        let took = start.elapsed();
        println!("a thousand took {took:?}");
        assert!(
            took < Duration::from_secs(5),
            "{took:?}: one after the other is 200 s"
        );
        assert_eq!(heard.len(), 1000);
        let found = heard.iter().filter(|it| it.said == Said::Taken(MAC_CLIENT));
        let found: Vec<IpAddr> = found.map(|it| it.address).collect();
        assert_eq!(found, used.map(|number| all[number]));
        let free = heard.iter().filter(|it| it.said == Said::Free).count();
        assert_eq!(free, 997);
    });
}

#[test]
fn who_is_heard_on_a_vlan_above_the_interface_is_on_another_link() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        let claim = packet::arp(2, packet::BROADCAST, MAC_CLIENT, VIP4, VIP4);
        let tagged = [&claim[..12], &[0x81, 0, 0, 10], &claim[12..]].concat();
        let address: IpAddr = VIP4.parse().unwrap();
        for (frame, said) in [(tagged, Said::Free), (claim, Said::Taken(MAC_CLIENT))] {
            let mut prober = kernel.prober().unwrap();
            prober.ask(vec![probe(address)], &BTreeSet::new());
            // It listens from its first step on.
            assert_eq!(prober.step().unwrap(), Some(vec![]));
            send_from_client(net, vec![frame]);
            assert_eq!(finish(&mut *prober), [Heard { address, said }]);
        }
    });
}

#[test]
fn an_interface_that_is_not_there_or_is_down_cannot_be_asked_on() {
    with_net(|net| async {
        let (mut kernel, _node) = open(net, Gate::Shut, 60 * SECOND).await;
        let mut prober = kernel.prober().unwrap();
        let mut nowhere = probe(vips()[0]);
        nowhere.interface = "nowhere".into();
        prober.ask(vec![nowhere], &BTreeSet::new());
        let address = vips()[0];
        let said = Said::Unasked;
        assert_eq!(finish(&mut *prober), [Heard { address, said }]);
        run("ip", &["-n", &net.host(), "link", "set", "lan", "down"]);
        assert_eq!(ask(&mut kernel, &vips()), heard(Said::Unasked));
    });
}
