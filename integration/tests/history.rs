//! Clients write, delete and read VIPs through any node while nodes die, hang and are cut off; what they saw must be one
//! order of things: no acknowledged allocation lost, no address given twice, no read of the past.
//!
//! `cargo xtask history --minutes M` goes on for longer, with another seed each time.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vipd_integration::Stamp;
use vipd_integration::cluster::{Api, Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::Lab;
use vipd_model::history::{Call, Op, Said, check};

const CLIENTS: usize = 5;
/// So few names that clients meet.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Of one client in one round: enough to meet every phase of a fault, few enough to be judged.
const CALLS: usize = 60;
/// How long a fault lasts: longer than an election.
const FAULT: Duration = Duration::from_millis(1200);
/// A search for an order that takes longer finds none.
const JUDGING: Duration = Duration::from_secs(60);

/// Something done to a node, and how it is undone.
struct Fault {
    name: &'static str,
    strike: fn(&Cluster, &str),
    mend: fn(&Cluster, &str),
}

const FAULTS: [Fault; 5] = [
    Fault {
        name: "kill -9",
        strike: |cluster, node| cluster.node(node).kill9().unwrap(),
        mend: |cluster, node| cluster.node(node).run().unwrap(),
    },
    Fault {
        name: "SIGSTOP",
        strike: |cluster, node| cluster.node(node).freeze().unwrap(),
        mend: |cluster, node| cluster.node(node).thaw().unwrap(),
    },
    Fault {
        name: "cut from peers",
        strike: |cluster, node| cluster.lab().cut_from_peers(node).unwrap(),
        mend: |cluster, _| cluster.lab().heal().unwrap(),
    },
    Fault {
        name: "power-off",
        strike: |cluster, node| cluster.lab().host(node).power_off().unwrap(),
        mend: |cluster, node| {
            cluster.lab().host(node).power_on().unwrap();
            cluster.node(node).run().unwrap();
        },
    },
    Fault {
        name: "restart",
        strike: |cluster, node| cluster.node(node).stop(PATIENCE).unwrap(),
        mend: |cluster, node| cluster.node(node).run().unwrap(),
    },
];

/// One client: asks one thing after the other, of another node whenever one does not answer.
struct Client {
    apis: Vec<Api>,
    at: usize,
    round: usize,
    dice: u64,
    calls: Vec<Call>,
    /// What answers to writes show besides: the VIP as it was found at some moment after the write.
    looks: Vec<Call>,
}

impl Client {
    fn new(cluster: &Cluster, number: usize, round: usize, seed: u64) -> Self {
        let dice =
            seed ^ (round as u64 * 31 + number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            apis: cluster.nodes().map(|node| node.api()).collect(),
            at: number,
            round,
            dice: dice | 1,
            calls: Vec::new(),
            looks: Vec::new(),
        }
    }

    /// xorshift64*.
    fn roll(&mut self, n: u64) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn run(mut self, stop: &AtomicBool) -> [Vec<Call>; 2] {
        while self.calls.len() < CALLS && !stop.load(Ordering::Relaxed) {
            let name = NAMES[self.roll(NAMES.len() as u64) as usize].to_owned();
            let op = match self.roll(5) {
                0 | 1 => Op::Put(name),
                2 => Op::Delete(name),
                _ => Op::Get(name),
            };
            self.call(op);
            sleep(Duration::from_millis(10 + self.roll(60)));
        }
        [self.calls, self.looks]
    }

    /// Asks, and writes down what can be known.
    fn call(&mut self, op: Op) {
        let api = &self.apis[self.at % self.apis.len()];
        let asked = Instant::now();
        let answer = ask(api, self.round, &op);
        let at = Instant::now();
        let said = match answer {
            Answer::Said(said) => Some((at, said)),
            // Changed nothing for sure.
            Answer::Refused => return,
            Answer::Nothing => {
                self.at += 1;
                None
            }
        };
        let said = match (&op, said) {
            (Op::Put(name), Some((at, seen))) => {
                let op = Op::Get(name.clone());
                let said = Some((at, seen));
                self.looks.push(Call { asked, op, said });
                Some((at, Said::Made))
            }
            // A read that nobody answered changed nothing.
            (Op::Get(_), None) => return,
            (_, said) => said,
        };
        self.calls.push(Call { asked, op, said });
    }
}

enum Answer {
    Said(Said),
    Refused,
    Nothing,
}

fn ask(api: &Api, round: usize, op: &Op) -> Answer {
    let path = |name: &str| format!("/v1/vips/r{round}-{name}");
    let spec = json!({ "spec": { "pool": format!("r{round}"), "families": "ipv4" } }).to_string();
    let (method, path, body) = match op {
        Op::Put(name) => ("PUT", path(name), spec),
        Op::Delete(name) => ("DELETE", path(name), String::new()),
        Op::Get(name) => ("GET", path(name), String::new()),
    };
    let Ok((status, said)) = api.ask(method, &path, &body) else {
        return Answer::Nothing;
    };
    match (op, status) {
        (Op::Put(_) | Op::Get(_), 200 | 201) => Answer::Said(shown(&said)),
        (Op::Delete(_), 200 | 204) => Answer::Said(Said::Deleted),
        (Op::Delete(_) | Op::Get(_), 404) => Answer::Said(Said::Absent),
        (_, 400..500) => {
            eprintln!("{op:?}: {status} {said}");
            Answer::Refused
        }
        _ => Answer::Nothing,
    }
}

/// The VIP with its one address, as the answer shows it; a write's answer shows none when it is deleted by then.
fn shown(said: &Value) -> Said {
    if said.is_null() {
        return Said::Absent;
    }
    let addresses = said["status"]["addresses"].as_array();
    match addresses.map(Vec::as_slice) {
        Some([one]) => Said::Has(one["address"].as_str().unwrap().parse().unwrap()),
        _ => panic!("a VIP without exactly one address: {said}"),
    }
}

/// One pool, many clients, one fault; then what they saw is judged.
fn round(cluster: &Cluster, number: usize, fault: &Fault, leads: bool, seed: u64) {
    // As many addresses as all clients could ask for: one that is freed while its holder is dead is given to nobody until the
    // lease has ended, and a VIP may have to wait for an address in a smaller one.
    let block = format!("10.77.{}.0/24", 100 + number % 100);
    let pool = format!("r{number}");
    wait("the round's pool", PATIENCE, || {
        let body = json!({ "spec": { "blocks": [{ "cidr": block }] } });
        cluster
            .leader_api()?
            .put(&format!("/v1/pools/{pool}"), &body)
            .map(Some)
    })
    .unwrap();
    let leader = cluster.leader().unwrap();
    let hosts = cluster.lab().servers();
    let victim = hosts
        .map(|host| host.name().to_owned())
        .find(|name| (*name == leader) == leads)
        .unwrap();
    let stop = AtomicBool::new(false);
    let mut seen: Vec<Vec<Call>> = scope(|clients| {
        let running: Vec<_> = (0..CLIENTS)
            .map(|client| Client::new(cluster, client, number, seed))
            .map(|client| clients.spawn(|| client.run(&stop)))
            .collect();
        sleep(Duration::from_millis(300));
        (fault.strike)(cluster, &victim);
        sleep(FAULT);
        (fault.mend)(cluster, &victim);
        cluster.wait_until_whole().unwrap();
        stop.store(true, Ordering::Relaxed);
        running
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    // What is there in the end, as everybody agrees.
    let mut last = Client::new(cluster, 0, number, seed);
    for name in NAMES {
        let before = last.calls.len();
        wait("a last read", PATIENCE, || {
            last.call(Op::Get(name.to_owned()));
            Ok((last.calls.len() > before).then_some(()))
        })
        .unwrap();
    }
    seen.push(last.calls);
    let began = Instant::now();
    let counted = check(&seen, JUDGING).unwrap();
    let whom = if leads { "the leader" } else { "a follower" };
    eprintln!(
        "round {number}, {} of {whom}: {counted:?}, judged in {:.1?}",
        fault.name,
        began.elapsed()
    );
    assert!(
        counted.calls > CLIENTS * 4,
        "hardly anything was asked: {counted:?}"
    );
    // A later round has the same block, and a pool that overlaps an older one gives no address. What nobody was told the
    // outcome of may still make a VIP: both are deleted until both are gone.
    wait("the round's VIPs and pool are gone", PATIENCE, || {
        let api = cluster.leader_api()?;
        for name in NAMES {
            api.ask("DELETE", &format!("/v1/vips/r{number}-{name}"), "")?;
        }
        let (status, _) = api.ask("DELETE", &format!("/v1/pools/{pool}"), "")?;
        Ok(matches!(status, 200 | 204 | 404).then_some(()))
    })
    .unwrap();
}

#[test]
fn what_clients_see_while_nodes_fail_is_one_order_of_things() {
    let from_environment = |name| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let seed = from_environment("VIPD_HISTORY_SEED").unwrap_or(Stamp::now().0);
    let minutes = from_environment("VIPD_HISTORY_MINUTES").unwrap_or(0);
    eprintln!("VIPD_HISTORY_SEED={seed} VIPD_HISTORY_MINUTES={minutes}");
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let lab = Lab::new(&["n1", "n2", "n3"]).unwrap();
    let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
    let mut number = 0;
    while number < FAULTS.len() || Instant::now() < until {
        // Mostly the leader, whose loss matters most.
        let leads = number % 4 != 3;
        round(
            &cluster,
            number,
            &FAULTS[number % FAULTS.len()],
            leads,
            seed,
        );
        number += 1;
    }
}
