//! How long a claim of many addresses takes, from the order to the last frame on the wire. A measurement, which prints:
//! `cargo test --release -p vipd-datapath --test claim_bench -- --ignored --nocapture`

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use nix::{
    sys::time::TimeValLike,
    time::{ClockId, clock_gettime},
};
use support::wire::Tap;
use support::{MAC_HOST, SECOND, with_net};
use vipd_datapath::{Datapath, Gate, Kernel, Wanted, WantedAddress, boottime_ns};
use vipd_datapath_common::frame::{Arp, ETHERNET};

/// `count` addresses from 10.64.0.0 upwards.
fn many(count: u32, gate: Gate, epoch: u64) -> Wanted {
    let first = u32::from(Ipv4Addr::new(10, 64, 0, 0));
    let entry = WantedAddress {
        interface: "lan".to_owned(),
        gate,
        epoch,
    };
    let address = |i| IpAddr::from(Ipv4Addr::from(first + i));
    Wanted {
        addresses: (0..count).map(|i| (address(i), entry.clone())).collect(),
        interfaces: ["lan".to_owned()].into(),
        ..Wanted::default()
    }
}

/// The address that a frame announces.
fn announced(frame: &[u8]) -> Option<IpAddr> {
    let sender = frame.get(ETHERNET + 14..ETHERNET + 18)?;
    let address = [sender[0], sender[1], sender[2], sender[3]];
    [Arp::REQUEST, Arp::REPLY]
        .iter()
        .any(|form| Arp::gratuitous(*form, address, MAC_HOST).frame() == frame)
        .then(|| IpAddr::from(address))
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[test]
#[ignore = "a measurement, which needs a quiet machine and a release build"]
fn a_claim_of_many_addresses() {
    println!(
        "addresses  applied ms  first announced ms  last announced ms  audit ms  observe ms  given up ms  idle second ms CPU"
    );
    for count in [1, 100, 1_000, 10_000] {
        with_net(move |net| async move {
            let mut kernel = Kernel::open(&net.pins).await.unwrap();
            kernel.apply(&many(count, Gate::Shut, 1)).await.unwrap();
            let mut node = kernel.node_gate().unwrap();
            node.set_deadline(boottime_ns() + 600 * SECOND);
            let tap = Tap::at_client(net);

            let claim = many(count, Gate::Open, 2);
            let start = boottime_ns();
            kernel.apply(&claim).await.unwrap();
            let applied = boottime_ns() - start;

            let mut heard = BTreeMap::new();
            let begin = Instant::now();
            while heard.len() < count as usize && begin.elapsed() < Duration::from_secs(20) {
                for (at, frame) in tap.collect(Duration::from_millis(20), |_| true) {
                    if let Some(address) = announced(&frame) {
                        heard.entry(address).or_insert(at);
                    }
                }
            }
            let wanted: BTreeSet<_> = claim.addresses.keys().copied().collect();
            let missing = wanted.iter().filter(|vip| !heard.contains_key(vip)).count();
            assert_eq!(missing, 0, "of {count} addresses never announced");
            let first = heard.values().min().unwrap() - start;
            let last = heard.values().max().unwrap() - start;

            let start = boottime_ns();
            kernel.apply(&claim).await.unwrap();
            let audit = boottime_ns() - start;
            let start = boottime_ns();
            let observed = kernel.observe().await.unwrap();
            let observe = boottime_ns() - start;
            assert!(observed.addresses.values().all(|address| address.answering));

            // Until all are on the interface; then what an idle second costs.
            let cpu = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
            let mut idle = 0.0;
            for _ in 0..60 {
                std::thread::sleep(Duration::from_millis(500));
                let start = cpu();
                kernel.interfaces().await.unwrap();
                kernel.apply(&claim).await.unwrap();
                kernel.observe().await.unwrap();
                let spent = cpu() - start;
                let before = std::mem::replace(&mut idle, spent.num_microseconds() as f64 / 1e3);
                if idle < 1.1 * before && before < 1.1 * idle {
                    break;
                }
            }

            let start = boottime_ns();
            kernel.apply(&many(count, Gate::Shut, 2)).await.unwrap();
            let given_up = boottime_ns() - start;
            println!(
                "{count:>9}  {:>10.1}  {:>18.1}  {:>17.1}  {:>8.1}  {:>10.1}  {:>11.1}  {idle:>18.2}",
                ms(applied),
                ms(first),
                ms(last),
                ms(audit),
                ms(observe),
                ms(given_up)
            );
        });
    }
}
