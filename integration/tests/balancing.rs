//! The holder spreads connections over backends, and they survive the holder.
//!
//! Real daemons, real kernels, real sockets. Needs root and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use vipd_integration::GRACE;
use vipd_integration::cluster::{Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::{Host, Lab};
use vipd_integration::probe::{Conversations, STREAM_PORT, Streamer, UDP_PORT};

/// Where clients ask for a page; the backends have it on port 80.
const PORT: u16 = 8080;
/// Connections that must survive, for each address: half of them download all the time, half are idle.
const CONNECTIONS: usize = 100;
/// A page that does not come within this time does not come.
const PAGE: Duration = Duration::from_secs(2);
/// Pages after which each of three backends has served one, but once in 10^10 runs.
const PAGES: usize = 60;
/// Until TCP has sent again what was lost with the holder.
const RESENT: Duration = Duration::from_secs(10);

/// Three servers with daemons, backends, and a VIP of both families in front of them.
struct Site {
    // In the order in which they have to end.
    _streamers: Vec<Streamer>,
    cluster: Cluster,
    addresses: Vec<IpAddr>,
}

fn both_families<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<Value> {
    hosts
        .flat_map(|host| [IpAddr::from(host.v4()), IpAddr::from(host.v6())])
        .map(|address| json!({ "address": address.to_string() }))
        .collect()
}

impl Site {
    /// With backends of their own.
    fn with_backends(mode: &str) -> Self {
        let site = Self::start(&["b1", "b2", "b3"]);
        let backends = both_families(site.lab().backends());
        site.put(mode, &backends);
        site.ready()
    }

    fn start(backends: &[&str]) -> Self {
        let lab = Lab::with_backends(&["n1", "n2", "n3"], backends).unwrap();
        for backend in lab.backends() {
            backend.serve().unwrap();
        }
        let streamers = lab
            .backends()
            .map(|host| Streamer::start(&host.netns().unwrap()).unwrap())
            .collect();
        let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
        Self {
            _streamers: streamers,
            cluster,
            addresses: vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()],
        }
    }

    /// Makes or changes the VIP.
    fn put(&self, mode: &str, backends: &[Value]) {
        self.put_with(mode, backends, &json!({}));
    }

    /// The same, with more in its spec.
    fn put_with(&self, mode: &str, backends: &[Value], more: &Value) {
        let api = self.cluster.leader_api().unwrap();
        let blocks = json!([{ "cidr": "10.77.0.96/28" }, { "cidr": "fd77::100/124" }]);
        api.put("/v1/pools/web", &json!({ "spec": { "blocks": blocks } }))
            .unwrap();
        let mut page = json!({ "name": "page", "port": PORT, "target_port": 80 });
        if mode == "dsr" {
            page = json!({ "name": "page", "port": 80 });
        }
        let mut spec = json!({
            "addresses": self.addresses,
            "mode": mode,
            "ports": [
                page,
                { "name": "stream", "port": STREAM_PORT },
                { "name": "udp", "port": UDP_PORT, "protocol": "udp" },
            ],
            "backends": backends,
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        api.put("/v1/vips/www", &json!({ "spec": spec })).unwrap();
    }

    /// Waits until clients are served at both addresses.
    fn ready(self) -> Self {
        self.cluster
            .wait_for_holder(&self.addresses, "a holder", |_| true)
            .unwrap();
        std::thread::sleep(GRACE);
        self
    }

    fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    fn holder(&self) -> &Host {
        self.cluster.holder(self.addresses[0]).unwrap()
    }

    /// Asks for a page on a connection of its own; what it says.
    fn page(&self, address: IpAddr, port: u16) -> anyhow::Result<String> {
        self.lab().client().netns()?.enter(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PAGE)?;
            stream.set_read_timeout(Some(PAGE))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            let body = page.rsplit("\r\n").next().unwrap_or_default();
            Ok(body.trim().to_owned())
        })
    }

    /// Asks for pages, once the first has come; all that came, each sentence once.
    fn pages(&self, address: IpAddr, port: u16) -> BTreeSet<String> {
        wait("the first page", PATIENCE, || {
            self.page(address, port).map(Some)
        })
        .unwrap();
        self.try_pages(address, port).unwrap()
    }

    fn try_pages(&self, address: IpAddr, port: u16) -> anyhow::Result<BTreeSet<String>> {
        (0..PAGES).map(|_| self.page(address, port)).collect()
    }
}

impl Site {
    /// What the nodes say of a packet to it is what they do.
    fn trace(&self, address: IpAddr) {
        let holder = self.holder();
        let client = match address {
            IpAddr::V4(_) => IpAddr::from(self.lab().client().v4()),
            IpAddr::V6(_) => IpAddr::from(self.lab().client().v6()),
        };
        for server in self.lab().servers() {
            let path = format!(
                "/v1/lb/trace?client={client}&client_port=40000&address={address}&port={PORT}"
            );
            let said = self.cluster.node(server.name()).api().get(&path).unwrap();
            if server.name() == holder.name() {
                assert_eq!(said["verdict"], "sent", "{said}");
                assert_eq!(said["backend"]["port"], 80, "{said}");
                assert_eq!(said["destination"], said["backend"], "{said}");
            } else {
                assert_ne!(said["verdict"], "sent", "{said}");
            }
        }
    }
}

/// The hosts that served these pages.
fn hosts(pages: &BTreeSet<String>) -> BTreeSet<&str> {
    pages
        .iter()
        .filter_map(|page| page.split(' ').next())
        .collect()
}

#[test]
fn nat_spreads_connections_over_all_backends_of_the_family_in_the_name_of_the_vip() {
    let site = Site::with_backends("nat");
    for &address in &site.addresses {
        let pages = site.pages(address, PORT);
        assert_eq!(
            hosts(&pages),
            BTreeSet::from(["b1", "b2", "b3"]),
            "{pages:?}"
        );
        site.trace(address);
        let in_its_name = format!("for {address}");
        assert!(pages.iter().all(|p| p.ends_with(&in_its_name)), "{pages:?}");
    }
}

#[test]
fn dsr_spreads_connections_and_backends_see_who_asks() {
    let site = Site::start(&["b1", "b2", "b3"]);
    for backend in site.lab().backends() {
        let quiet = [
            ("net/ipv4/conf/all/arp_ignore", "1"),
            ("net/ipv4/conf/all/arp_announce", "2"),
        ];
        backend.netns().unwrap().sysctl(&quiet).unwrap();
        for address in &site.addresses {
            backend.ip(&format!("addr add {address} dev lo\n")).unwrap();
        }
    }
    site.put("dsr", &both_families(site.lab().backends()));
    let site = site.ready();
    let client = site.lab().client();
    for (&address, client) in site
        .addresses
        .iter()
        .zip([IpAddr::from(client.v4()), IpAddr::from(client.v6())])
    {
        let pages = site.pages(address, 80);
        assert_eq!(
            hosts(&pages),
            BTreeSet::from(["b1", "b2", "b3"]),
            "{pages:?}"
        );
        let direct = format!("answered at {address} for {client}");
        assert!(pages.iter().all(|p| p.ends_with(&direct)), "{pages:?}");
    }
    survive(&site);
}

#[test]
fn the_holder_itself_may_be_one_of_the_backends() {
    let site = Site::start(&[]);
    site.put("nat", &both_families(site.lab().servers()));
    let site = site.ready();
    for &address in &site.addresses {
        let pages = site.pages(address, PORT);
        assert_eq!(
            hosts(&pages),
            BTreeSet::from(["n1", "n2", "n3"]),
            "{pages:?}"
        );
    }
}

#[test]
fn a_backend_that_is_taken_out_keeps_its_connections_and_gets_no_new_ones() {
    let site = Site::with_backends("nat");
    let mut talks = site.converse();
    let mut backends = both_families(site.lab().backends());
    // Of b1, both addresses.
    for backend in &mut backends[..2] {
        backend["weight"] = json!(0);
    }
    site.put("nat", &backends);
    for &address in &site.addresses {
        let gone = || Ok((!hosts(&site.pages(address, PORT)).contains("b1")).then_some(()));
        wait("b1 gets no new connection", PATIENCE, gone).unwrap();
    }
    site.all_go_on(&mut talks);
}

#[test]
fn a_backend_that_does_not_answer_gets_no_new_connections_until_it_does() {
    let site = Site::start(&["b1", "b2"]);
    let backends = both_families(site.lab().backends());
    let health = json!({ "kind": "http", "port": 80, "interval": "200ms", "timeout": "100ms", "fall": 2, "rise": 2 });
    site.put_with("nat", &backends, &json!({ "health": health }));
    let site = site.ready();
    let until_served_by = |expected: &[&str]| {
        for &address in &site.addresses {
            let so = || {
                let pages = site.try_pages(address, PORT)?;
                Ok((hosts(&pages) == expected.iter().copied().collect()).then_some(()))
            };
            wait(
                &format!("{address} is served by {expected:?}"),
                PATIENCE,
                so,
            )
            .unwrap();
        }
    };
    until_served_by(&["b1", "b2"]);
    let b1 = site.lab().host("b1");
    b1.port_down().unwrap();
    until_served_by(&["b2"]);
    let holder = site.cluster.node(site.holder().name());
    let vip = holder.api().get("/v1/vips/www").unwrap();
    let told = vip["status"]["backends"].as_array().unwrap();
    let down: Vec<_> = told.iter().filter(|it| it["healthy"] == false).collect();
    assert_eq!(down.len(), 2, "both addresses of b1: {told:?}");
    b1.port_up().unwrap();
    until_served_by(&["b1", "b2"]);
    let events = site.cluster.ask("/v1/events").unwrap().to_string();
    for word in ["is down: ", "is up"] {
        assert!(events.contains(word), "no event says {word:?}");
    }
}

/// Asks often enough for a test.
fn health(more: Value) -> Value {
    let mut health = json!({
        "kind": "tcp", "port": 80, "interval": "200ms", "timeout": "100ms", "fall": 2, "rise": 1,
    });
    for (key, value) in more.as_object().unwrap() {
        health[key] = value.clone();
    }
    json!({ "health": health })
}

#[test]
fn a_vip_leaves_a_node_that_sees_no_backend_and_stays_where_nobody_sees_one() {
    let site = Site::start(&["b1"]);
    let backends = both_families(site.lab().backends());
    site.put_with("nat", &backends, &health(json!({ "all_down": "withdraw" })));
    let site = site.ready();
    let b1 = site.lab().host("b1");
    let first = site.holder().name().to_owned();
    let (v4, v6) = (b1.v4(), b1.v6());
    let no_way = format!("route add blackhole {v4}\nroute add blackhole {v6}\n");
    site.holder().ip(&no_way).unwrap();
    let left = |name: &str| name != first;
    let addresses = &site.addresses;
    site.cluster
        .wait_for_holder(addresses, "a node that sees it holds", left)
        .unwrap();
    for &address in addresses {
        assert_eq!(hosts(&site.pages(address, PORT)), BTreeSet::from(["b1"]));
    }

    b1.port_down().unwrap();
    let all_say_so = || {
        let vip = site.cluster.ask("/v1/vips/www")?;
        let conditions = vip["status"]["conditions"].as_array().unwrap().clone();
        let said = conditions.iter().find(|it| it["type"] == "seen");
        let said = said.map_or(String::new(), |it| it["message"].to_string());
        // The last move may have begun before the last node said it.
        let of = vip["status"]["addresses"].as_array().unwrap();
        let settled = of.iter().all(|it| it["conditions"] == json!([]));
        let all = ["n1", "n2", "n3"].iter().all(|name| said.contains(name));
        Ok((all && settled).then_some(()))
    };
    wait("all see it down", PATIENCE, all_say_so).unwrap();
    let last = site.holder().name().to_owned();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.holder().name(), last, "it has nowhere to go");

    b1.port_up().unwrap();
    for &address in addresses {
        let served = || site.page(address, PORT).map(Some);
        wait("it is served again", PATIENCE, served).unwrap();
    }
    assert_ne!(site.holder().name(), first, "which has no way to it still");
}

#[test]
fn a_backend_that_cannot_answer_the_vip_gets_no_connections() {
    let site = Site::start(&[]);
    let backends = both_families(site.lab().servers());
    site.put_with("nat", &backends, &health(json!({})));
    let site = site.ready();
    let first = site.holder().name().to_owned();
    // Its host goes on, has the VIP on its interface, and takes its packets for forged ones.
    site.cluster.node(&first).kill9().unwrap();
    let left = |name: &str| name != first;
    site.cluster
        .wait_for_holder(&site.addresses, "another host holds", left)
        .unwrap();
    for &address in &site.addresses {
        let served = || {
            // Some go astray until it is found out.
            let pages = site.try_pages(address, PORT).unwrap_or_default();
            Ok((hosts(&pages).len() == 2 && !hosts(&pages).contains(first.as_str())).then_some(()))
        };
        wait("the two others serve it", PATIENCE, served).unwrap();
    }
}

#[test]
fn connections_survive_a_planned_move_and_the_power_off_of_the_holder_under_nat() {
    let site = Site::with_backends("nat");
    let mut talks = site.converse();
    let first = site.holder().name().to_owned();
    let next = site.lab().servers().find(|host| host.name() != first);
    let next = next.unwrap().name().to_owned();
    let arguments = ["vip", "move", "www", "--to", &next];
    site.cluster.vipctl(&arguments).unwrap();
    let moved = |name: &str| name == next;
    let addresses = &site.addresses;
    site.cluster
        .wait_for_holder(addresses, "the other host holds", moved)
        .unwrap();
    site.all_go_on(&mut talks);
    drop(talks);
    survive(&site);
}

#[test]
fn no_connection_is_lost_when_daemons_are_reloaded_one_after_the_other_and_then_the_holder_dies() {
    let site = Site::with_backends("nat");
    let mut talks = site.converse();
    let holder = site.holder();
    let tokens = || {
        let states = site.cluster.addresses().unwrap().into_iter();
        let mut tokens: Vec<_> = states.map(|it| (it.address, it.holder, it.epoch)).collect();
        tokens.sort();
        tokens
    };
    let before = tokens();
    let is_holder = |host: &&Host| host.name() == holder.name();
    let others = site.lab().servers().filter(|host| !is_holder(host));
    for host in others.chain([holder]) {
        site.cluster.node(host.name()).reload().unwrap();
        site.cluster.wait_until_whole().unwrap();
        site.all_go_on(&mut talks);
    }
    // Past the end of the stretched lease.
    std::thread::sleep(GRACE);
    assert_eq!(tokens(), before, "nothing has moved");
    site.all_go_on(&mut talks);
    // What the others were told before they were reloaded, and since, is there when they need it.
    die(&site, &mut talks);
}

/// Opens connections, takes the holder's power, and demands that every one of them goes on.
fn survive(site: &Site) {
    let mut talks = site.converse();
    die(site, &mut talks);
}

/// Takes the holder's power; these connections go on.
fn die(site: &Site, talks: &mut [Conversations]) {
    let holder = site.holder();
    holder.power_off().unwrap();
    let other = |name: &str| name != holder.name();
    site.cluster
        .wait_for_holder(&site.addresses, "another host holds", other)
        .unwrap();
    site.all_go_on(talks);
}

impl Site {
    fn converse(&self) -> Vec<Conversations> {
        let client = self.lab().client();
        let talk = |&address: &IpAddr| {
            let talks =
                Conversations::start(client, address, CONNECTIONS / 2, CONNECTIONS / 2).unwrap();
            talks
                .wait_until_all_go_on(&[0; CONNECTIONS / 2], RESENT)
                .unwrap();
            talks
        };
        self.addresses.iter().map(talk).collect()
    }

    fn all_go_on(&self, talks: &mut [Conversations]) {
        for (address, talks) in self.addresses.iter().zip(talks) {
            let now = talks.bytes().unwrap();
            let downloads = talks.wait_until_all_go_on(&now, RESENT);
            downloads.unwrap_or_else(|error| panic!("{address}: {error:#}"));
            let idle = talks.ask_the_idle();
            idle.unwrap_or_else(|error| panic!("{address}: {error:#}"));
        }
    }
}
