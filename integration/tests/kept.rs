//! Backends see clients' own addresses, since their way back leads through the holder: their default gateway is a VIP that
//! moves with the one that they serve. Connections survive the holder, also where the backend speaks first.
//!
//! Real daemons, real kernels, real sockets. Needs root and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;
use vipd_integration::GRACE;
use vipd_integration::cluster::{Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::Lab;
use vipd_integration::probe::{Conversations, HTTP_PORT, STREAM_PORT, Streamer};

/// Where a backend speaks first, when it is told to.
const PUSH_PORT: u16 = 7790;
/// Connections that must survive, for each address: half of them download all the time, half are idle.
const CONNECTIONS: usize = 20;
/// What does not come within this time does not come.
const PAGE: Duration = Duration::from_secs(2);
/// Until TCP has sent again what was lost with the holder.
const RESENT: Duration = Duration::from_secs(10);
/// Pages after which each of two backends has served one, but once in 10^9 runs.
const PAGES: usize = 30;
/// The client's addresses of another subnet: backends reach it by their gateway alone.
const FAR: [&str; 2] = ["10.78.0.2", "fd78::2"];

struct Site {
    // In the order in which they have to end.
    _streamers: Vec<Streamer>,
    pushers: Vec<TcpListener>,
    cluster: Cluster,
    addresses: Vec<IpAddr>,
}

impl Site {
    fn start() -> Self {
        let lab = Lab::with_backends(&["n1", "n2", "n3"], &["b1", "b2"]).unwrap();
        let [far4, far6] = FAR;
        let far = format!(
            "addr add {far4}/24 dev eth0\naddr add {far6}/64 dev eth0 nodad\n\
             route add 10.77.0.100 dev eth0 src {far4}\nroute add fd77::100 dev eth0 src {far6}\n"
        );
        lab.client().ip(&far).unwrap();
        for server in lab.servers() {
            let way = "route add 10.78.0.0/24 dev eth0\nroute add fd78::/64 dev eth0\n";
            server.ip(way).unwrap();
        }
        let (mut streamers, mut pushers) = (Vec::new(), Vec::new());
        for backend in lab.backends() {
            let gateway = "route add default via 10.77.0.101\nroute add default via fd77::101\n";
            backend.ip(gateway).unwrap();
            backend.serve().unwrap();
            let ns = backend.netns().unwrap();
            streamers.push(Streamer::start(&ns).unwrap());
            let bind = || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PUSH_PORT))?);
            let pusher = ns.enter(bind).unwrap();
            pusher.set_nonblocking(true).unwrap();
            pushers.push(pusher);
        }
        let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
        let site = Self {
            _streamers: streamers,
            pushers,
            cluster,
            addresses: vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()],
        };
        site.put();
        site.cluster
            .wait_for_holder(&site.addresses, "a holder", |_| true)
            .unwrap();
        thread::sleep(GRACE);
        site
    }

    /// Makes both VIPs.
    fn put(&self) {
        let api = self.cluster.leader_api().unwrap();
        let blocks = json!([{ "cidr": "10.77.0.96/28" }, { "cidr": "fd77::100/124" }]);
        api.put("/v1/pools/web", &json!({ "spec": { "blocks": blocks } }))
            .unwrap();
        let gateway = json!({ "addresses": ["10.77.0.101", "fd77::101"], "group": "edge" });
        api.put("/v1/vips/gateway", &json!({ "spec": gateway }))
            .unwrap();
        let backends = self.lab().backends();
        let backends = backends.flat_map(|host| [IpAddr::from(host.v4()), host.v6().into()]);
        let backends: Vec<_> = backends.map(|at| json!({ "address": at })).collect();
        let spec = json!({
            "addresses": self.addresses,
            "group": "edge",
            "mode": "nat",
            "client_address": "keep",
            "ports": [{ "port": HTTP_PORT }, { "port": STREAM_PORT }, { "port": PUSH_PORT }],
            "backends": backends,
        });
        api.put("/v1/vips/www", &json!({ "spec": spec })).unwrap();
    }

    fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    fn page(&self, address: IpAddr) -> anyhow::Result<String> {
        self.lab().client().netns()?.enter(|| {
            let to = SocketAddr::new(address, HTTP_PORT);
            let mut stream = TcpStream::connect_timeout(&to, PAGE)?;
            stream.set_read_timeout(Some(PAGE))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            let body = page.rsplit("\r\n").next().unwrap_or_default();
            Ok(body.trim().to_owned())
        })
    }

    /// A connection on which nobody says anything, both of its ends.
    fn silent(&self, address: IpAddr) -> [TcpStream; 2] {
        let client = self.lab().client().netns().unwrap();
        let to = SocketAddr::new(address, PUSH_PORT);
        let client = client.enter(|| Ok(TcpStream::connect_timeout(&to, PAGE)?));
        let client = client.unwrap();
        let accept = || {
            for pusher in &self.pushers {
                match pusher.accept() {
                    Ok((stream, _)) => return Ok(Some(stream)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(None)
        };
        let server = wait("the backend has the connection", PATIENCE, accept).unwrap();
        client.set_read_timeout(Some(RESENT)).unwrap();
        [client, server]
    }

    /// What the holder shows of connections.
    fn shown(&self, address: IpAddr, far: &str) {
        let holder = self.cluster.holder(address).unwrap();
        let api = self.cluster.node(holder.name()).api();
        let path = format!("/v1/lb/connections?vip={address}&port={STREAM_PORT}");
        let shown = api.get(&path).unwrap();
        let items = shown["items"].as_array().unwrap();
        assert_eq!(items.len(), CONNECTIONS, "{shown}");
        for one in items {
            assert_eq!(one["client"]["address"], far, "{one}");
            assert_eq!(one["mode"], "nat", "{one}");
            assert!(one.get("source").is_none(), "it is seen as itself: {one}");
        }
        let path = format!(
            "/v1/lb/trace?client={far}&client_port=40000&address={address}&port={HTTP_PORT}"
        );
        let traced = api.get(&path).unwrap();
        assert_eq!(traced["verdict"], "sent", "{traced}");
        assert_eq!(traced["source"]["address"], far, "{traced}");
        assert_eq!(traced["destination"], traced["backend"], "{traced}");
        let services = api.get("/v1/lb/services").unwrap();
        let services = services["items"].as_array().unwrap().clone();
        assert!(
            services.iter().all(|it| it["client_address"] == "keep"),
            "{services:?}"
        );
    }
}

#[test]
fn backends_whose_gateway_moves_along_see_clients_and_connections_survive_the_holder() {
    let site = Site::start();
    let lab = site.lab();
    let mut talks = Vec::new();
    let mut silent = Vec::new();
    for (&address, far) in site.addresses.iter().zip(FAR) {
        let first = || site.page(address).map(Some);
        wait("the first page", PATIENCE, first).unwrap();
        let pages: anyhow::Result<BTreeSet<_>> = (0..PAGES).map(|_| site.page(address)).collect();
        let pages = pages.unwrap();
        let seen = format!("for {far}");
        assert!(pages.iter().all(|page| page.ends_with(&seen)), "{pages:?}");
        let hosts: BTreeSet<_> = pages.iter().filter_map(|it| it.split(' ').next()).collect();
        assert_eq!(hosts, BTreeSet::from(["b1", "b2"]), "{pages:?}");
        let half = CONNECTIONS / 2;
        let talk = Conversations::start(lab.client(), address, half, half).unwrap();
        talk.wait_until_all_go_on(&vec![0; half], RESENT).unwrap();
        site.shown(address, far);
        talks.push(talk);
        silent.extend((0..half).map(|_| (address, site.silent(address))));
    }

    let holder = site.cluster.holder(site.addresses[0]).unwrap();
    holder.power_off().unwrap();
    let other = |name: &str| name != holder.name();
    site.cluster
        .wait_for_holder(&site.addresses, "another host holds", other)
        .unwrap();
    for (address, [client, server]) in &mut silent {
        server.write_all(b"a word").unwrap();
        let mut word = [0; 6];
        let heard = client.read_exact(&mut word);
        heard.unwrap_or_else(|error| panic!("{address}, the backend speaks first: {error}"));
        assert_eq!(&word, b"a word", "{address}");
    }
    for (address, talks) in site.addresses.iter().zip(&mut talks) {
        let now = talks.bytes().unwrap();
        let downloads = talks.wait_until_all_go_on(&now, RESENT);
        downloads.unwrap_or_else(|error| panic!("{address}: {error:#}"));
        let idle = talks.ask_the_idle();
        idle.unwrap_or_else(|error| panic!("{address}: {error:#}"));
    }
}
