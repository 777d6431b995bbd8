//! Backends are asked how they are, by whom they shall be, in whole clusters: those that are ill get no new connections,
//! whoever holds the VIP.
//!
//! Real daemons, real kernels, real sockets; nginx serves. Needs root, nginx, and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

mod kinds;
mod local;
mod loopback;
mod next;
mod patient;
mod program;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use serde_json::{Value, json};
use vipd_integration::cluster::{Binaries, Cluster, Node, PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};

use patient::Patient;

/// A page that does not come within this time does not come.
const PAGE: Duration = Duration::from_secs(2);
/// Pages after which each of three backends has served one, but once in 10^10 runs.
const PAGES: usize = 60;
/// Beyond what intervals and time-outs add up to, on a busy machine: until the table has changed, and to see it.
const SLACK: Duration = Duration::from_secs(2);

/// How often backends are asked, and how many answers count.
#[derive(Clone, Copy)]
struct Pace {
    interval: Duration,
    fall: u32,
    rise: u32,
}

impl Pace {
    /// The longest until an ill backend gets no new connections: an answer may take an interval.
    fn falls(self) -> Duration {
        self.interval * (self.fall + 1) + SLACK
    }

    /// The longest until one that is well again gets some.
    fn rises(self) -> Duration {
        self.interval * (self.rise + 1) + SLACK
    }

    /// The shortest: the first answer that counts may be to a question that was asked an interval before.
    fn rises_not_before(self) -> Duration {
        self.interval * (self.rise - 2)
    }

    /// A spec's `health` with it.
    fn of(self, mut question: Value) -> Value {
        let interval = format!("{}ms", self.interval.as_millis());
        question["interval"] = json!(interval);
        question["timeout"] = json!(interval);
        question["fall"] = json!(self.fall);
        question["rise"] = json!(self.rise);
        question
    }
}

/// Three servers with daemons, and backends beside them.
struct Site {
    cluster: Cluster,
}

/// A backend, as a node sees it.
#[derive(Clone, Debug)]
struct Seen {
    address: IpAddr,
    healthy: bool,
    reason: String,
}

/// Both addresses of a host.
fn both(host: &Host) -> [IpAddr; 2] {
    [host.v4().into(), host.v6().into()]
}

fn own(host: &Host, like: IpAddr) -> IpAddr {
    both(host)[usize::from(like.is_ipv6())]
}

/// The addresses of the VIP with this number.
fn vips(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::from([10, 77, 0, 100 + number]),
        format!("fd77::10{number}").parse().unwrap(),
    ]
}

/// A page, and who gave it, where, to whom.
fn page_from(from: Option<IpAddr>, to: SocketAddr, patience: Duration) -> anyhow::Result<String> {
    page_by(from.map(|from| (from, 0).into()), to, patience)
}

/// The same, from a port of the client's choice.
fn page_by(from: Option<SocketAddr>, to: SocketAddr, patience: Duration) -> anyhow::Result<String> {
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if let Some(from) = from {
        // Else it would take a port by chance, perhaps one that it has just had.
        setsockopt(&socket, IpBindAddressNoPort, &(from.port() == 0))?;
        socket.bind(&from.into())?;
    }
    socket.connect_timeout(&to.into(), patience)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PAGE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let body = page.rsplit("\r\n").next().unwrap_or_default();
    anyhow::ensure!(body.contains(" answered at "), "no page: {page:?}");
    Ok(body.trim().to_owned())
}

/// Who gave a page.
fn name(page: &str) -> &str {
    page.split(' ').next().unwrap()
}

impl Site {
    fn start(lab: Lab, configure: impl Fn(&Node<'_>) -> anyhow::Result<()>) -> Self {
        let binaries = Binaries::built().unwrap();
        let cluster = Cluster::start_with(lab, binaries, 3, configure).unwrap();
        let blocks = json!([{ "cidr": "10.77.0.96/28" }, { "cidr": "fd77::100/124" }]);
        let pool = json!({ "spec": { "blocks": blocks } });
        let api = cluster.leader_api().unwrap();
        api.put("/v1/pools/web", &pool).unwrap();
        Self { cluster }
    }

    fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    fn patient(&self, name: &str) -> Patient<'_> {
        Patient(self.lab().host(name))
    }

    fn put(&self, vip: &str, spec: &Value) {
        let api = self.cluster.leader_api().unwrap();
        let path = format!("/v1/vips/{vip}");
        api.put(&path, &json!({ "spec": spec })).unwrap();
    }

    /// Waits until one host that is liked holds both addresses.
    fn held(&self, vips: [IpAddr; 2], what: &str, liked: impl Fn(&str) -> bool) -> &Host {
        self.cluster.wait_for_holder(&vips, what, liked).unwrap()
    }

    fn pages(&self, vips: [IpAddr; 2]) -> anyhow::Result<Vec<String>> {
        self.lab().client().netns()?.enter(|| {
            let all = vips.into_iter().flat_map(|vip| [vip; PAGES]);
            all.map(|vip| page_from(None, (vip, patient::PAGES).into(), PAGE))
                .collect()
        })
    }

    /// Waits until new connections to both addresses go to these, and to these alone.
    fn served_by(&self, vips: [IpAddr; 2], wanted: &[&str], bound: Duration) {
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        wait(&format!("{vips:?} are served by {wanted:?}"), bound, || {
            let pages = self.pages(vips)?;
            let of = |pages: &[String]| -> BTreeSet<String> {
                pages.iter().map(|page| name(page).to_owned()).collect()
            };
            let (v4, v6) = pages.split_at(PAGES);
            let so = [of(v4), of(v6)].iter().all(|of| of.iter().eq(&wanted));
            Ok(so.then_some(()))
        })
        .unwrap();
    }

    /// Waits until a node holds both addresses of the first VIP, and it alone serves them.
    fn rests_on(&self, node: &str, bound: Duration) {
        let began = Instant::now();
        self.held(vips(0), &format!("{node} holds"), |name| name == node);
        println!("{node} holds after {:?}", began.elapsed());
        assert!(began.elapsed() <= bound, "{:?}", began.elapsed());
        self.served_by(vips(0), &[node], bound);
    }

    /// What a node sees of the backends of a VIP.
    fn seen(&self, node: &str, vip: &str) -> anyhow::Result<Vec<Seen>> {
        let path = format!("/v1/vips/{vip}?consistency=local");
        let vip = self.cluster.node(node).api().get(&path)?;
        let all = vip["status"]["backends"].as_array().into_iter().flatten();
        let seen = all.map(|it| {
            anyhow::Ok(Seen {
                address: it["address"].as_str().unwrap_or_default().parse()?,
                healthy: it["healthy"] == true,
                reason: it["reason"].as_str().unwrap_or_default().to_owned(),
            })
        });
        seen.collect()
    }

    /// Waits until a node sees both addresses of these backends of a VIP down, and all others up, each for a reason with this
    /// word in it.
    fn sees_down(&self, node: &str, vip: &str, down: &[(&str, &str)], bound: Duration) {
        let what = format!("{node} sees {down:?} of {vip} down, and no others");
        let why = |seen: &Seen| {
            let of =
                |(host, _): &&(&str, &str)| both(self.lab().host(host)).contains(&seen.address);
            down.iter().find(of).map(|(_, why)| *why)
        };
        wait(&what, bound, || {
            let all = self.seen(node, vip)?;
            let so = |seen: &Seen| match why(seen) {
                Some(why) => !seen.healthy && seen.reason.contains(why),
                None => seen.healthy,
            };
            anyhow::ensure!(!all.is_empty() && all.iter().all(so), "{all:#?}");
            Ok(Some(()))
        })
        .unwrap();
    }

    /// Whether an event about a VIP has all these words.
    fn told(&self, vip: &str, words: &[&str]) {
        let object = format!("vip/{vip}");
        wait(
            &format!("an event says {words:?} of {vip}"),
            PATIENCE,
            || {
                let events = self.cluster.ask("/v1/events")?;
                let mut events = events["items"].as_array().unwrap().iter();
                let says = |event: &&Value| {
                    let message = event["message"].as_str().unwrap_or_default();
                    event["object"] == object && words.iter().all(|word| message.contains(word))
                };
                Ok(events.find(says).map(drop))
            },
        )
        .unwrap();
    }
}

/// The backends of a spec: both addresses of these hosts, with weights.
fn backends<'a>(hosts: impl IntoIterator<Item = (&'a Host, u16)>) -> Value {
    let all = hosts.into_iter().flat_map(|(host, weight)| {
        both(host).map(|address| json!({ "address": address, "weight": weight }))
    });
    all.collect()
}
