//! dsr to backends behind a router: packets travel inside others, and connections survive the holder.
//!
//! Real daemons, real kernels, real sockets; the backends take packets apart in user space (`Unpacker`), so that a kernel
//! without ipip and fou will do. Needs root and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

#[path = "common/behind.rs"]
mod behind;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;
use vipd_integration::GRACE;
use vipd_integration::cluster::{Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::{Lab, NetNs};
use vipd_integration::probe::{
    Conversations, HTTP_PORT, STREAM_PORT, Streamer, UDP_PORT, Unpacker,
};

/// Where uploads go.
const SINK_PORT: u16 = 7779;
/// What is uploaded: many packets of the greatest size.
const UPLOAD: usize = 2 << 20;
/// Connections that must survive, for each address: half of them download all the time, half are idle.
const CONNECTIONS: usize = 20;
/// A page that does not come within this time does not come.
const PAGE: Duration = Duration::from_secs(2);
/// An upload whose first packets did not fit.
const SLOW: Duration = Duration::from_secs(20);
/// Pages after which each of two backends has served one, but once in 10^9 runs.
const PAGES: usize = 30;
/// Until TCP has sent again what was lost with the holder.
const RESENT: Duration = Duration::from_secs(10);
/// MTU of every link.
const MTU: usize = 1500;

/// Three servers with daemons, and a router beside them, behind which the backends are.
struct Site {
    // In the order in which they have to end.
    _streamers: Vec<Streamer>,
    unpackers: Vec<Unpacker>,
    cluster: Cluster,
    addresses: Vec<IpAddr>,
}

impl Site {
    /// `carries`: MTU of the way to the backends, as the servers' routes say.
    fn start(dispatch: &str, carries: usize) -> Self {
        let names = ["b1", "b2"];
        let lab = Lab::with_backends(&["n1", "n2", "n3"], &[behind::ROUTER, "b1", "b2"]).unwrap();
        let vips: Vec<IpAddr> = vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()];
        let unpackers = behind::put(&lab, &names, &vips, carries);
        let mut streamers = Vec::new();
        for backend in names.map(|name| lab.host(name)) {
            backend.serve().unwrap();
            let ns = backend.netns().unwrap();
            streamers.push(Streamer::start(&ns).unwrap());
            sink(&ns);
        }
        let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
        let site = Self {
            _streamers: streamers,
            unpackers,
            cluster,
            addresses: vips,
        };
        site.put(dispatch);
        site.cluster
            .wait_for_holder(&site.addresses, "a holder", |_| true)
            .unwrap();
        thread::sleep(GRACE);
        site
    }

    /// Makes the VIP.
    fn put(&self, dispatch: &str) {
        let api = self.cluster.leader_api().unwrap();
        let blocks = json!([{ "cidr": "10.77.0.96/28" }, { "cidr": "fd77::100/124" }]);
        api.put("/v1/pools/web", &json!({ "spec": { "blocks": blocks } }))
            .unwrap();
        let backends = [1, 2].into_iter().flat_map(behind::addresses);
        let backends: Vec<_> = backends.map(|at| json!({ "address": at })).collect();
        let spec = json!({
            "addresses": self.addresses,
            "mode": "dsr",
            "dispatch": dispatch,
            "ports": [
                { "port": HTTP_PORT },
                { "port": STREAM_PORT },
                { "port": SINK_PORT },
                { "port": UDP_PORT, "protocol": "udp" },
            ],
            "backends": backends,
        });
        api.put("/v1/vips/www", &json!({ "spec": spec })).unwrap();
    }

    fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    fn client(&self) -> NetNs {
        self.lab().client().netns().unwrap()
    }

    fn client_address(&self, of: IpAddr) -> IpAddr {
        match of {
            IpAddr::V4(_) => self.lab().client().v4().into(),
            IpAddr::V6(_) => self.lab().client().v6().into(),
        }
    }

    fn page(&self, address: IpAddr) -> anyhow::Result<String> {
        self.client().enter(|| {
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

    /// Uploads, and demands to hear of the same bytes.
    fn upload(&self, address: IpAddr) {
        let data: Vec<u8> = (0..UPLOAD).map(|n| (n % 251) as u8).collect();
        let heard = self.client().enter(|| {
            let mut stream =
                TcpStream::connect_timeout(&SocketAddr::new(address, SINK_PORT), PAGE)?;
            stream.set_read_timeout(Some(SLOW))?;
            stream.set_write_timeout(Some(SLOW))?;
            stream.write_all(&data)?;
            stream.shutdown(Shutdown::Write)?;
            let mut heard = [0; 16];
            stream.read_exact(&mut heard)?;
            Ok(heard)
        });
        assert_eq!(heard.unwrap(), digest(&data), "{address}");
    }

    /// What the client's kernel says of the way to an address.
    fn path(&self, address: IpAddr) -> String {
        let mut ask = Command::new("ip");
        ask.args(["route", "get", &address.to_string()]);
        let said = self.lab().client().run(&mut ask).unwrap();
        String::from_utf8(said.stdout).unwrap()
    }

    /// A long datagram, which the client's kernel sends in pieces by now; the answer repeats what was asked, as far as the
    /// responder reads it.
    fn ask_in_pieces(&self, address: IpAddr) -> anyhow::Result<String> {
        self.client().enter(|| {
            let any: IpAddr = match address {
                IpAddr::V4(_) => IpAddr::from([0; 4]),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(PAGE))?;
            socket.connect((address, UDP_PORT))?;
            socket.send(&vec![b'?'; 4000])?;
            let mut answer = [0; 1024];
            let length = socket.recv(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).replace('?', ""))
        })
    }
}

/// Counts and sums up what comes on each connection until its end, and says so.
fn sink(ns: &NetNs) {
    let bind = || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, SINK_PORT))?);
    let listener = ns.enter(bind).unwrap();
    // It ends with the test: nobody waits for it.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) {
    let mut data = Vec::new();
    if stream.read_to_end(&mut data).is_ok() {
        // The client sees if it does not come.
        let _ = stream.write_all(&digest(&data));
    }
}

/// Length and sum of bytes weighed by their places.
fn digest(data: &[u8]) -> [u8; 16] {
    let sum = data.iter().zip(1u64..).fold(0u64, |sum, (byte, place)| {
        sum.wrapping_add(u64::from(*byte) * place)
    });
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&(data.len() as u64).to_be_bytes());
    digest[8..].copy_from_slice(&sum.to_be_bytes());
    digest
}

/// Bytes that the outer headers take.
fn room(dispatch: &str, address: IpAddr) -> usize {
    let network = if address.is_ipv4() { 20 } else { 40 };
    network + if dispatch == "gue" { 12 } else { 0 }
}

/// All of it by one dispatch.
fn through_a_router(dispatch: &str, carries: usize) {
    let site = Site::start(dispatch, carries);
    for &address in &site.addresses {
        wait("the first page", PATIENCE, || site.page(address).map(Some)).unwrap();
        let pages: BTreeSet<String> = (0..PAGES).map(|_| site.page(address).unwrap()).collect();
        let client = site.client_address(address);
        let direct = |name| format!("{name} answered at {address} for {client}");
        assert_eq!(pages, ["b1", "b2"].map(direct).into(), "{dispatch}");

        assert!(
            !site.path(address).contains("mtu"),
            "{}",
            site.path(address)
        );
        site.upload(address);
        let fits = carries - room(dispatch, address);
        let path = site.path(address);
        assert!(path.contains(&format!("mtu {fits} ")), "{fits}: {path}");
        let answer = site.ask_in_pieces(address).unwrap();
        assert!(["b1", "b2"].contains(&answer.as_str()), "{answer}");
        site.is_seen(dispatch, address);
    }
    for unpacker in &site.unpackers {
        let seen = unpacker.seen();
        assert_eq!(seen.wrong, Vec::<String>::new());
        assert!(seen.longest <= carries, "{seen:?}");
        let (these, others) = match dispatch {
            "gue" => (seen.gue, seen.ipip),
            _ => (seen.ipip, seen.gue),
        };
        assert!(these > 100 && others == 0, "{seen:?}");
    }
    survive(&site);
}

impl Site {
    /// The holder says how packets travel.
    fn is_seen(&self, dispatch: &str, address: IpAddr) {
        let holder = self.cluster.holder(self.addresses[0]).unwrap();
        let api = self.cluster.node(holder.name()).api();
        let client = self.client_address(address);
        let path = format!(
            "/v1/lb/trace?client={client}&client_port=40000&address={address}&port={HTTP_PORT}"
        );
        let said = api.get(&path).unwrap();
        assert_eq!(said["verdict"], "sent", "{said}");
        assert_eq!(
            said["destination"]["address"],
            address.to_string(),
            "{said}"
        );
        assert_eq!(said["outer"]["dispatch"], dispatch, "{said}");
        assert_eq!(
            said["outer"]["destination"], said["backend"]["address"],
            "{said}"
        );
        let own: IpAddr = match address {
            IpAddr::V4(_) => holder.v4().into(),
            IpAddr::V6(_) => holder.v6().into(),
        };
        assert_eq!(said["outer"]["source"], own.to_string(), "{said}");
        let services = api.get("/v1/lb/services").unwrap();
        let all = services["items"].as_array().unwrap();
        assert!(
            all.iter().all(|one| one["dispatch"] == dispatch),
            "{services}"
        );
    }
}

/// Opens connections, takes the holder's power, and demands that every one of them goes on.
fn survive(site: &Site) {
    let talk = |&address: &IpAddr| {
        let client = site.lab().client();
        let talks =
            Conversations::start(client, address, CONNECTIONS / 2, CONNECTIONS / 2).unwrap();
        talks
            .wait_until_all_go_on(&[0; CONNECTIONS / 2], RESENT)
            .unwrap();
        talks
    };
    let mut talks: Vec<Conversations> = site.addresses.iter().map(talk).collect();
    let holder = site.cluster.holder(site.addresses[0]).unwrap();
    holder.power_off().unwrap();
    let other = |name: &str| name != holder.name();
    site.cluster
        .wait_for_holder(&site.addresses, "another host holds", other)
        .unwrap();
    for (address, talks) in site.addresses.iter().zip(&mut talks) {
        let now = talks.bytes().unwrap();
        let downloads = talks.wait_until_all_go_on(&now, RESENT);
        downloads.unwrap_or_else(|error| panic!("{address}: {error:#}"));
        let idle = talks.ask_the_idle();
        idle.unwrap_or_else(|error| panic!("{address}: {error:#}"));
    }
}

#[test]
fn ip_in_ip_reaches_backends_behind_a_router_and_connections_survive_the_holder() {
    through_a_router("ipip", MTU);
}

#[test]
fn gue_reaches_backends_behind_a_router_and_connections_survive_the_holder() {
    through_a_router("gue", MTU - 50);
}
