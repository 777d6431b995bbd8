//! Hostile clients of a running daemon's API: they cost the holder no lease and the leader no election, and other nodes'
//! writes go on.
//!
//! Real daemons, real kernels, 200 clients at the node that holds the VIP and leads. Needs root and
//! `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::json;
use vipd_integration::cluster::{AddressState, Api, PATIENCE, wait};
use vipd_integration::{Bench, Stamp};

/// How many clients there are of each kind.
const OF_EACH: usize = 40;
/// For how long they go on.
const LONG: Duration = Duration::from_secs(10);
/// So many VIPs make a list worth asking for.
const VIPS: usize = 300;
/// What a client of the VIP may go without an answer: it shares two cores with all of them. That the lease went on the epochs show.
const OUTAGE: Duration = Duration::from_secs(1);
/// A list that is worth asking for, in bytes.
const LIST: usize = 100_000;
/// What a write through another node may take, unoptimised, on cores that hostile clients and all nodes share.
const WRITE: Duration = Duration::from_secs(3);

/// What a hostile client does, over and over.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// Asks for everything, and reads it.
    Everything,
    /// Promises a large body, and does not send it.
    NoBody,
    /// Never ends its head.
    NoHead,
    /// Watches everything, and reads none of it.
    Deaf,
    /// Connects by TCP, and says nothing that TLS knows.
    NoHandshake,
}

const ATTACKS: [Attack; 5] = [
    Attack::Everything,
    Attack::NoBody,
    Attack::NoHead,
    Attack::Deaf,
    Attack::NoHandshake,
];

impl Attack {
    fn says(self) -> &'static str {
        match self {
            Self::Everything => {
                "GET /v1/vips?fieldSelector=spec.pool!=none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            }
            Self::NoBody => {
                "PUT /v1/vips/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{"
            }
            Self::NoHead => "GET /v1/vips HTTP/1.1\r\nhost",
            Self::Deaf => "GET /v1/vips?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n",
            Self::NoHandshake => "\x16\x03\x01",
        }
    }

    /// Once: returns when it was answered, or has kept its connection for a while. How many bytes it read of an answer that
    /// grants what it asked for.
    fn once(self, socket: &PathBuf, tls: SocketAddr) -> std::io::Result<usize> {
        match self {
            Self::NoHandshake => {
                let mut stream = TcpStream::connect_timeout(&tls, Duration::from_secs(1))?;
                stream.write_all(self.says().as_bytes())?;
                sleep(Duration::from_millis(500));
                Ok(0)
            }
            Self::Everything => {
                let mut stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.write_all(self.says().as_bytes())?;
                let mut answer = Vec::new();
                // What came before it was cut off, or was slow, counts.
                let _ended = stream.read_to_end(&mut answer);
                Ok(granted(&answer))
            }
            Self::NoBody | Self::NoHead | Self::Deaf => {
                let mut stream = UnixStream::connect(socket)?;
                stream.write_all(self.says().as_bytes())?;
                sleep(Duration::from_millis(500));
                // Whether it is answered at all; the rest it leaves.
                stream.set_nonblocking(true)?;
                let mut head = [0; 64];
                let read = stream.read(&mut head)?;
                Ok(granted(&head[..read]))
            }
        }
    }
}

/// How long an answer is; none that is a refusal.
fn granted(answer: &[u8]) -> usize {
    match answer.starts_with(b"HTTP/1.1 200") {
        true => answer.len(),
        false => 0,
    }
}

/// Hostile clients, until dropped.
struct Siege {
    stop: Arc<AtomicBool>,
    tries: Arc<AtomicU64>,
    /// The longest answers, by the kind of client.
    answers: Arc<[AtomicUsize; ATTACKS.len()]>,
    clients: Vec<JoinHandle<()>>,
}

impl Siege {
    fn lay(bench: &Bench, node: &str) -> Self {
        let (stop, tries) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let host = bench.lab().host(node);
        let socket = bench.cluster().node(node).socket();
        let tls = SocketAddr::from((host.v4(), 7480));
        let mut siege = Self {
            stop,
            tries,
            answers: Arc::default(),
            clients: Vec::new(),
        };
        for (kind, attack) in ATTACKS
            .iter()
            .enumerate()
            .cycle()
            .take(ATTACKS.len() * OF_EACH)
        {
            let (stop, tries) = (siege.stop.clone(), siege.tries.clone());
            let (attack, socket, answers) = (*attack, socket.clone(), siege.answers.clone());
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    // Being refused or cut off is what it asks for, now and then.
                    let read = attack.once(&socket, tls).unwrap_or(0);
                    answers[kind].fetch_max(read, Ordering::Relaxed);
                    tries.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(10));
                }
            };
            siege.clients.push(match attack {
                Attack::NoHandshake => {
                    let client = bench.lab().client().netns().unwrap();
                    client.thread("hostile", work).unwrap()
                }
                Attack::Everything | Attack::NoBody | Attack::NoHead | Attack::Deaf => spawn(work),
            });
        }
        siege
    }

    /// Ends it; how often they tried, and the longest answer to each kind of client.
    fn lift(self) -> (u64, [usize; ATTACKS.len()]) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        let answers = std::array::from_fn(|kind| self.answers[kind].load(Ordering::Relaxed));
        (self.tries.load(Ordering::Relaxed), answers)
    }
}

/// Writes through the API for so long; how long each took, the longest last.
fn writes(api: &Api, long: Duration) -> Vec<Duration> {
    let until = Instant::now() + long;
    let mut took = Vec::new();
    while Instant::now() < until {
        let n = took.len();
        let vip = json!({ "labels": { "round": n.to_string() }, "spec": { "families": "ipv4" } });
        let began = Instant::now();
        api.put("/v1/vips/polite", &vip).unwrap();
        took.push(began.elapsed());
        sleep(Duration::from_millis(20));
    }
    took.sort_unstable();
    took
}

fn told(took: &[Duration]) -> String {
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    format!("{} writes, median {median:?}, longest {most:?}", took.len())
}

/// Who holds the addresses of the VIP, under which tokens.
fn www(bench: &Bench) -> Vec<AddressState> {
    let mut all = bench.cluster().addresses().unwrap();
    all.retain(|state| state.vip == "www");
    all
}

#[test]
fn hostile_clients_of_its_api_cost_the_holder_no_lease_the_leader_no_election_and_writes_little() {
    let bench = Bench::start().unwrap();
    let cluster = bench.cluster();
    let leader = cluster.leader().unwrap();
    cluster
        .vipctl(&["vip", "move", "www", "--to", &leader])
        .unwrap();
    bench
        .wait_for_one_holder("the leader holds the VIP", |name| name == leader)
        .unwrap();
    let mut others = cluster.nodes().filter(|node| node.host().name() != leader);
    let api = others.next().unwrap().api().within(PATIENCE);
    let block = json!({ "start": "10.77.4.0", "stop": "10.77.7.255" });
    let pool = json!({ "spec": { "blocks": [block] } });
    api.put("/v1/pools/many", &pool).unwrap();
    for i in 0..VIPS {
        let vip = json!({ "spec": { "pool": "many", "families": "ipv4" } });
        api.put(&format!("/v1/vips/v{i}"), &vip).unwrap();
    }
    println!("alone: {}", told(&writes(&api, LONG / 5)));

    let (before, from) = (www(&bench), Stamp::now());
    let siege = Siege::lay(&bench, &leader);
    let took = writes(&api, LONG);
    let (tries, answers) = siege.lift();
    println!(
        "{} hostile clients, {tries} tries, answers of {answers:?} bytes: {}",
        ATTACKS.len() * OF_EACH,
        told(&took)
    );
    let outages = bench.outages(from);
    for gap in &outages {
        println!("longest outage of a client of the VIP: {:?}", gap.length());
    }

    let [everything, .., deaf, _] = answers;
    assert!(
        everything > LIST && deaf > 0,
        "it was no siege: {answers:?}"
    );
    assert_eq!(
        www(&bench),
        before,
        "holder and fencing tokens are as they were"
    );
    assert_eq!(cluster.leader().unwrap(), leader);
    assert!(
        outages.iter().all(|gap| gap.length() < OUTAGE),
        "{outages:?}"
    );
    assert!(took[took.len() - 1] < WRITE, "{}", told(&took));
    bench.ensure_never_two().unwrap();

    // What they kept open is closed by now, or soon: whoever asks politely is answered by the same node.
    let api = cluster.node(&leader).api();
    wait("the node that was besieged answers", PATIENCE, || {
        let vip = api.get("/v1/vips/www?consistency=local")?;
        Ok((vip["name"] == "www").then_some(()))
    })
    .unwrap();
}
