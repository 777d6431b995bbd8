//! Programs that everybody has (curl, wrk, iperf3, ping, traceroute) use VIPs of every mode, over IPv4 and IPv6; nginx and
//! iperf3 serve.
//!
//! Real daemons, real kernels. Needs root, the programs, and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

#[path = "common/behind.rs"]
mod behind;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use vipd_integration::cluster::{Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};
use vipd_integration::probe::Unpacker;
use vipd_integration::tools::{self, BLOB, Connections, IPERF3_PORT, Iperf3, Load, Question};

/// Where nginx listens, and the VIPs: `dsr` rewrites no ports.
const PORT: u16 = 8000;
/// A program that takes longer has failed.
const BOUND: Duration = Duration::from_secs(20);
/// Pages after which each of two backends has served one, but once in 10^9 runs.
const PAGES: usize = 30;
/// What iperf3 sends over TCP, and in datagrams.
const BYTES: u64 = 4 << 20;
const DATAGRAMS: u64 = 256 << 10;
/// MTU of every link.
const MTU: usize = 1500;

/// How packets get to those who serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Local,
    Nat,
    Dsr,
    Ipip,
    Gue,
}

impl Mode {
    fn routed(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }

    /// What the spec of a VIP says of it.
    fn spec(self) -> Value {
        match self {
            Self::Local => json!({ "mode": "local" }),
            Self::Nat => json!({ "mode": "nat" }),
            Self::Dsr => json!({ "mode": "dsr" }),
            Self::Ipip => json!({ "mode": "dsr", "dispatch": "ipip" }),
            Self::Gue => json!({ "mode": "dsr", "dispatch": "gue" }),
        }
    }
}

/// One node, and two backends where the mode has such.
struct Site {
    // In the order in which they have to end.
    unpackers: Vec<Unpacker>,
    cluster: Cluster,
    mode: Mode,
    addresses: [IpAddr; 2],
    blob: Vec<u8>,
}

impl Site {
    fn start(mode: Mode) -> Self {
        let servants: &[&str] = match mode {
            Mode::Local => &["n1"],
            Mode::Nat | Mode::Dsr | Mode::Ipip | Mode::Gue => &["b1", "b2"],
        };
        let others: &[&str] = match mode {
            Mode::Local => &[],
            Mode::Nat | Mode::Dsr => servants,
            Mode::Ipip | Mode::Gue => &[behind::ROUTER, "b1", "b2"],
        };
        let lab = Lab::with_backends(&["n1"], others).unwrap();
        let addresses = ["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()];
        let mut unpackers = vec![];
        if mode.routed() {
            unpackers = behind::put(&lab, servants, &addresses, MTU);
        }
        let mut blob = vec![];
        for host in servants.iter().map(|name| lab.host(name)) {
            if mode == Mode::Dsr {
                take_for_own(host, &addresses);
            }
            blob = tools::nginx(host, PORT).unwrap();
        }
        let cluster = Cluster::start(lab, Binaries::built().unwrap(), 1).unwrap();
        let site = Self {
            unpackers,
            cluster,
            mode,
            addresses,
            blob,
        };
        site.make_vips();
        site.cluster
            .wait_for_holder(&site.addresses, "a holder", |_| true)
            .unwrap();
        for address in site.addresses {
            let answers = || site.curl(&[&url(address, "/")]).map(Some);
            wait("the first page", PATIENCE, answers).unwrap();
        }
        site
    }

    /// One VIP for pages, served by both backends, and one at the same addresses for iperf3, whose connections of one test
    /// must meet in one server. In mode `local` the first has all ports.
    fn make_vips(&self) {
        let api = self.cluster.leader_api().unwrap();
        let blocks = json!([{ "cidr": "10.77.0.96/28" }, { "cidr": "fd77::100/124" }]);
        api.put("/v1/pools/web", &json!({ "spec": { "blocks": blocks } }))
            .unwrap();
        let put = |name: &str, ports: Value, backends: &[[IpAddr; 2]]| {
            let mut spec = self.mode.spec();
            spec["addresses"] = json!(self.addresses);
            if self.mode != Mode::Local {
                spec["sharing_key"] = json!("programs");
                spec["ports"] = ports;
                let each = backends.iter().flatten();
                spec["backends"] = each.map(|address| json!({ "address": address })).collect();
            }
            let path = format!("/v1/vips/{name}");
            api.put(&path, &json!({ "spec": spec })).unwrap();
        };
        let backends = self.backends();
        put("www", json!([{ "port": PORT }]), &backends);
        if self.mode != Mode::Local {
            let both = json!([
                { "port": IPERF3_PORT },
                { "port": IPERF3_PORT, "protocol": "udp" },
            ]);
            put("iperf3", both, &backends[..1]);
        }
    }

    /// The addresses of the two backends, IPv4 first. In mode `local` there are none: who serves is at the VIP itself.
    fn backends(&self) -> [[IpAddr; 2]; 2] {
        match self.mode {
            Mode::Local => [self.addresses; 2],
            Mode::Nat | Mode::Dsr => ["b1", "b2"].map(|name| {
                let host = self.lab().host(name);
                [host.v4().into(), host.v6().into()]
            }),
            Mode::Ipip | Mode::Gue => [behind::addresses(1), behind::addresses(2)],
        }
    }

    fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    fn client(&self) -> &Host {
        self.lab().client()
    }

    /// Gets these, each on a connection of its own.
    fn curl(&self, urls: &[&str]) -> anyhow::Result<String> {
        Self::curl_at(self.client(), urls)
    }

    fn curl_at(host: &Host, urls: &[&str]) -> anyhow::Result<String> {
        let mut arguments = vec!["-sS", "--fail", "--globoff", "--max-time", "10"];
        arguments.extend(["-H", "Connection: close"]);
        arguments.extend(urls);
        tools::run(host, BOUND, "curl", &arguments)
    }
}

/// Has the VIPs without answering for them, as docs/balancing.md tells the admin of a backend.
fn take_for_own(backend: &Host, vips: &[IpAddr]) {
    let quiet = [
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
    ];
    backend.netns().unwrap().sysctl(&quiet).unwrap();
    for vip in vips {
        backend.ip(&format!("addr add {vip} dev lo\n")).unwrap();
    }
}

fn url(address: IpAddr, path: &str) -> String {
    match address {
        IpAddr::V4(v4) => format!("http://{v4}:{PORT}{path}"),
        IpAddr::V6(v6) => format!("http://[{v6}]:{PORT}{path}"),
    }
}

/// What a page says.
fn line(name: &str, at: IpAddr, whom: IpAddr) -> String {
    format!("{name} answered at {at} for {whom}")
}

/// A host's own address of the family of another.
fn own(host: &Host, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => host.v4().into(),
        IpAddr::V6(_) => host.v6().into(),
    }
}

impl Site {
    /// curl gets pages from all who serve, and they see whom they shall see; a long file comes whole.
    fn pages(&self, address: IpAddr) {
        let page = url(address, "/");
        let said = self.curl(&[&*page; PAGES]).unwrap();
        assert_eq!(said.lines().count(), PAGES, "{said}");
        let (client, node) = (self.client(), self.lab().host("n1"));
        let own = |host: &Host| own(host, address);
        let expected: BTreeSet<String> = match self.mode {
            Mode::Local => [line(node.name(), address, own(client))].into(),
            Mode::Nat => ["b1", "b2"]
                .map(|name| line(name, own(self.lab().host(name)), address))
                .into(),
            Mode::Dsr | Mode::Ipip | Mode::Gue => ["b1", "b2"]
                .map(|name| line(name, address, own(client)))
                .into(),
        };
        let pages: BTreeSet<String> = said.lines().map(str::to_owned).collect();
        assert_eq!(pages, expected);

        let file = client.disk().join("blob");
        let into = file.to_str().unwrap();
        self.curl(&["-o", into, &url(address, BLOB)]).unwrap();
        assert!(std::fs::read(&file).unwrap() == self.blob, "{address}");
    }

    /// curl on the holder itself gets pages from all who serve, at their own addresses, and they see the holder's.
    fn beside(&self, address: IpAddr) {
        let node = self.lab().host("n1");
        let page = url(address, "/");
        let said = Self::curl_at(node, &[&*page; PAGES]).unwrap();
        let pages: BTreeSet<String> = said.lines().map(str::to_owned).collect();
        let expected: BTreeSet<String> = match self.mode {
            Mode::Local => [line(node.name(), address, address)].into(),
            Mode::Nat | Mode::Dsr | Mode::Ipip | Mode::Gue => {
                let family = usize::from(address.is_ipv6());
                let at = self.backends().map(|backend| backend[family]);
                let each = ["b1", "b2"].into_iter().zip(at);
                each.map(|(name, at)| line(name, at, own(node, address)))
                    .collect()
            }
        };
        assert_eq!(pages, expected);
    }

    /// wrk has every request answered, on connections that are kept, and on one for each.
    fn load(&self, address: IpAddr) {
        for kept in [Connections::Kept, Connections::New] {
            let wanted = Load {
                url: &url(address, "/"),
                connections: 16,
                kept,
                span: Duration::from_secs(1),
            };
            let told = tools::load(self.client(), &wanted).unwrap();
            assert!(told.requests > 20.0, "{kept:?}: {told:?}");
        }
    }

    /// iperf3 moves bytes in both directions, and all its datagrams arrive.
    fn bytes(&self, address: IpAddr) {
        let own = usize::from(address.is_ipv6());
        let (server, at) = match self.mode {
            Mode::Local => ("n1", address),
            Mode::Nat => ("b1", self.backends()[0][own]),
            Mode::Dsr | Mode::Ipip | Mode::Gue => ("b1", address),
        };
        let iperf3 = Iperf3 {
            client: self.client(),
            to: address,
            server: self.lab().host(server),
            at,
            runs: Cell::new(false),
        };
        let up = iperf3.upload().unwrap();
        let down = iperf3.download(BYTES).unwrap();
        assert!(up >= BYTES && down >= BYTES, "{up} up, {down} down");
        let told = iperf3.datagrams(DATAGRAMS).unwrap();
        assert!(told.sent >= 200 && told.lost == 0, "{told:?}");
    }

    /// The holder itself answers ping, short and in pieces.
    fn ping(&self, address: IpAddr) {
        let to = address.to_string();
        for size in ["56", "4000"] {
            let asked = ["-c", "3", "-i", "0.1", "-W", "2", "-s", size, &to];
            let said = tools::run(self.client(), BOUND, "ping", &asked).unwrap();
            assert!(said.contains(" 0% packet loss"), "{said}");
        }
    }

    /// traceroute shows the way: `nat` is a hop, which speaks as the VIP, like the backend behind it. Where no service is, a
    /// datagram gets no answer from a VIP that has any.
    fn way(&self, address: IpAddr) {
        let hops = |question| tools::hops(self.client(), address, question).unwrap();
        let there = Some(address);
        let straight = vec![there];
        assert_eq!(hops(Question::Echo), straight);
        let (to_service, elsewhere) = match self.mode {
            Mode::Local => (straight.clone(), straight),
            Mode::Nat => (vec![there; 2], vec![None; 3]),
            Mode::Dsr | Mode::Ipip | Mode::Gue => (straight, vec![None; 3]),
        };
        assert_eq!(hops(Question::Tcp(PORT)), to_service);
        assert_eq!(hops(Question::Udp), elsewhere);
    }
}

/// All of it in one mode.
fn programs_use(mode: Mode) {
    let site = Site::start(mode);
    for address in site.addresses {
        site.pages(address);
        site.beside(address);
        site.load(address);
        site.bytes(address);
        site.ping(address);
        site.way(address);
    }
    assert_eq!(site.unpackers.is_empty(), !mode.routed());
    for unpacker in &site.unpackers {
        let seen = unpacker.seen();
        assert_eq!(seen.wrong, Vec::<String>::new());
        let these = if mode == Mode::Gue {
            seen.gue
        } else {
            seen.ipip
        };
        assert!(these > 100, "{seen:?}");
    }
}

#[test]
fn curl_wrk_iperf3_ping_and_traceroute_use_a_vip_of_the_holders_own() {
    programs_use(Mode::Local);
}

#[test]
fn curl_wrk_iperf3_ping_and_traceroute_use_a_vip_in_mode_nat() {
    programs_use(Mode::Nat);
}

#[test]
fn curl_wrk_iperf3_ping_and_traceroute_use_a_vip_in_mode_dsr() {
    programs_use(Mode::Dsr);
}

#[test]
fn curl_wrk_iperf3_ping_and_traceroute_use_a_vip_dispatched_by_ipip() {
    programs_use(Mode::Ipip);
}

#[test]
fn curl_wrk_iperf3_ping_and_traceroute_use_a_vip_dispatched_by_gue() {
    programs_use(Mode::Gue);
}
