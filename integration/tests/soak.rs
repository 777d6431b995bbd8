//! Faults of all kinds in random order, for as long as asked: the rare ones show here.
//!
//! Not part of the ordinary run. As root:
//! `VIPD_SOAK_ROUNDS=200 cargo test -p vipd-integration --test soak -- --ignored --nocapture`;
//! a failing run is repeated with its `VIPD_SOAK_SEED`, which it prints.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use vipd_integration::cluster::PATIENCE;
use vipd_integration::probe::Gap;
use vipd_integration::{Bench, GRACE, Stamp};

/// Something done to the holder, and how it is undone.
struct Fault {
    name: &'static str,
    strike: fn(&Bench, &str),
    mend: fn(&Bench, &str),
}

const FAULTS: [Fault; 11] = [
    Fault {
        name: "power cut",
        strike: |bench, host| bench.lab().host(host).power_off().unwrap(),
        mend: |bench, host| {
            bench.lab().host(host).power_on().unwrap();
            bench.cluster().node(host).run().unwrap();
        },
    },
    Fault {
        name: "kill -9",
        strike: |bench, host| bench.cluster().node(host).kill9().unwrap(),
        mend: |bench, host| bench.cluster().node(host).run().unwrap(),
    },
    Fault {
        name: "SIGSTOP",
        strike: |bench, host| bench.cluster().node(host).freeze().unwrap(),
        mend: |bench, host| bench.cluster().node(host).thaw().unwrap(),
    },
    Fault {
        name: "SIGTERM",
        strike: |bench, host| bench.cluster().node(host).stop(PATIENCE).unwrap(),
        mend: |bench, host| bench.cluster().node(host).run().unwrap(),
    },
    Fault {
        name: "cut from peers",
        strike: |bench, host| bench.lab().cut_from_peers(host).unwrap(),
        mend: |bench, _| bench.lab().heal().unwrap(),
    },
    Fault {
        name: "cut from all",
        strike: |bench, host| bench.lab().cut_from_all(host).unwrap(),
        mend: |bench, _| bench.lab().heal().unwrap(),
    },
    Fault {
        name: "deaf",
        strike: |bench, host| one_way(bench, |peer| bench.lab().cut_one_way(peer, host), host),
        mend: |bench, _| bench.lab().heal().unwrap(),
    },
    Fault {
        name: "mute",
        strike: |bench, host| one_way(bench, |peer| bench.lab().cut_one_way(host, peer), host),
        mend: |bench, _| bench.lab().heal().unwrap(),
    },
    Fault {
        name: "cable pulled",
        strike: |bench, host| bench.lab().host(host).port_down().unwrap(),
        mend: |bench, host| bench.lab().host(host).port_up().unwrap(),
    },
    Fault {
        name: "drain",
        strike: |bench, host| drop(bench.cluster().vipctl(&["node", "drain", host]).unwrap()),
        mend: |bench, host| drop(bench.cluster().vipctl(&["node", "undrain", host]).unwrap()),
    },
    Fault {
        name: "move",
        strike: |bench, host| {
            let other = bench
                .lab()
                .servers()
                .find(|other| other.name() != host)
                .unwrap();
            bench
                .cluster()
                .vipctl(&["vip", "move", "www", "--to", other.name()])
                .unwrap();
        },
        mend: |_, _| {},
    },
];

/// Cuts the wire between `host` and each of its peers, in the direction that `cut` takes.
fn one_way(bench: &Bench, cut: impl Fn(&str) -> anyhow::Result<()>, host: &str) {
    for peer in bench.lab().servers().filter(|peer| peer.name() != host) {
        cut(peer.name()).unwrap();
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// A small generator (xorshift): the same seed gives the same faults.
fn next(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 33) as usize
}

#[test]
#[ignore = "takes as long as asked; see the top of this file"]
fn no_order_of_faults_makes_two_answer_or_leaves_the_client_alone() {
    let rounds = from_environment("VIPD_SOAK_ROUNDS").unwrap_or(20);
    let mut seed = from_environment("VIPD_SOAK_SEED").unwrap_or(Stamp::now().0);
    eprintln!("VIPD_SOAK_SEED={seed} VIPD_SOAK_ROUNDS={rounds}");
    let bench = Bench::start().unwrap();
    let mut seen: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 1..=rounds {
        let fault = &FAULTS[next(&mut seed) % FAULTS.len()];
        let old = bench
            .wait_for_one_holder("a holder", |_| true)
            .unwrap()
            .name()
            .to_owned();
        let from = Stamp::now();
        (fault.strike)(&bench, &old);
        let new = bench
            .wait_for_one_holder("another host serves", |name| name != old)
            .unwrap()
            .name()
            .to_owned();
        sleep(Duration::from_millis(500));
        let outage = bench.outages(from).iter().map(Gap::length).max().unwrap();
        (fault.mend)(&bench, &old);
        bench.cluster().wait_until_whole().unwrap();
        sleep(GRACE);
        let whole = bench.outages(from).iter().map(Gap::length).max().unwrap();
        eprintln!(
            "{round:4}  {:<15} {old} -> {new}  {outage:>10.1?}, with the mending {whole:>10.1?}",
            fault.name
        );
        bench.ensure_never_two().unwrap();
        seen.entry(fault.name).or_default().push(outage);
    }
    for (fault, mut outages) in seen {
        outages.sort();
        let (count, middle) = (outages.len(), outages[outages.len() / 2]);
        eprintln!(
            "{fault:<15} {count:4} times, outage {:.1?} .. {middle:.1?} .. {:.1?}",
            outages[0],
            outages[count - 1]
        );
    }
}
