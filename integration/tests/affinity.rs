//! Clients of a VIP with `affinity: client` come back to their backends, however these change and whoever holds the VIP.
//!
//! Real daemons, real kernels, real sockets. Needs root and `cargo build -p vipd -p vipctl`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use vipd_integration::GRACE;
use vipd_integration::cluster::{Binaries, Cluster, PATIENCE, wait};
use vipd_integration::lab::Lab;
use vipd_integration::probe::HTTP_PORT;

/// A page that does not come within this time does not come.
const PAGE: Duration = Duration::from_secs(2);
/// So many clients of each family: that one of two backends has all of one happens once in 500,000 runs.
const CLIENTS: u8 = 20;

/// Both addresses of the VIP.
fn vips() -> [IpAddr; 2] {
    ["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()]
}

/// The addresses of clients, or of hosts that never ask.
fn clients(net: u8) -> Vec<[IpAddr; 2]> {
    let of = |n: u8| {
        [
            IpAddr::from([10, 77, net, n]),
            format!("fd77::{net}:{n:x}").parse().unwrap(),
        ]
    };
    (1..=CLIENTS).map(of).collect()
}

const CAME: u8 = 1;
const STRANGERS: u8 = 2;

struct Site {
    cluster: Cluster,
}

impl Site {
    fn start() -> Self {
        let lab = Lab::with_backends(&["n1", "n2", "n3"], &["b1", "b2", "b3"]).unwrap();
        lab.backends().for_each(|host| host.serve().unwrap());
        let mut lines = String::new();
        for [v4, v6] in clients(CAME) {
            writeln!(lines, "addr add {v4}/16 dev eth0").unwrap();
            writeln!(lines, "addr add {v6}/64 dev eth0 nodad").unwrap();
        }
        lab.client().ip(&lines).unwrap();
        let cluster = Cluster::start(lab, Binaries::built().unwrap(), 3).unwrap();
        Self { cluster }
    }

    /// The VIP with backends of these weights.
    fn put(&self, weights: &[(&str, u16)]) {
        let api = self.cluster.leader_api().unwrap();
        let blocks = json!([{ "cidr": "10.77.0.96/28" }, { "cidr": "fd77::100/124" }]);
        api.put("/v1/pools/web", &json!({ "spec": { "blocks": blocks } }))
            .unwrap();
        let backends = weights.iter().flat_map(|(name, weight)| {
            let host = self.cluster.lab().host(name);
            let both = [IpAddr::from(host.v4()), host.v6().into()];
            both.map(|at| json!({ "address": at, "weight": weight }))
        });
        let spec = json!({
            "addresses": vips(),
            "mode": "nat",
            "affinity": "client",
            "affinity_timeout": "1h",
            "ports": [{ "port": HTTP_PORT }],
            "backends": backends.collect::<Vec<_>>(),
        });
        api.put("/v1/vips/www", &json!({ "spec": spec })).unwrap();
    }

    /// What a node says of where clients go, by address: the backend's name, and whether it is kept there.
    fn said(&self, node: &str, net: u8) -> anyhow::Result<BTreeMap<IpAddr, (String, bool)>> {
        let api = self.cluster.node(node).api();
        let lab = self.cluster.lab();
        let mut said = BTreeMap::new();
        for client in clients(net).into_iter().flatten() {
            let answer = api.get(&format!("/v1/lb/affinity?client={client}"))?;
            let one = &answer["items"][0];
            let at: IpAddr = one["backend"]["address"].as_str().unwrap_or("::").parse()?;
            let mut hosts = lab.backends();
            let host = hosts.find(|host| at == host.v4() || at == host.v6());
            let name = host.map_or("nobody", |host| host.name()).to_owned();
            said.insert(client, (name, one["left_ms"].is_u64()));
        }
        Ok(said)
    }

    /// Waits until the tables of all these nodes lead nearly every stranger to one of these backends.
    fn turned(&self, nodes: &[&str], to: &[&str]) {
        for node in nodes {
            wait(&format!("{node} leads to {to:?}"), PATIENCE, || {
                let said = self.said(node, STRANGERS)?;
                assert!(said.values().all(|(_, kept)| !kept), "{said:?}");
                let names = said.values().map(|(name, _)| name.as_str());
                let others = names.filter(|name| !to.contains(name)).count();
                Ok((others < said.len() / 4).then_some(()))
            })
            .unwrap();
        }
    }

    /// Who serves each client, on one more connection.
    fn served(&self) -> BTreeMap<IpAddr, String> {
        let inside = self.cluster.lab().client().netns().unwrap();
        let served = inside.enter(|| {
            let mut served = BTreeMap::new();
            for both in clients(CAME) {
                for (client, vip) in both.into_iter().zip(vips()) {
                    let page = page(client, vip)?;
                    let name = page.split(' ').next().unwrap_or_default();
                    served.insert(client, name.to_owned());
                }
            }
            Ok(served)
        });
        served.unwrap()
    }
}

fn page(from: IpAddr, vip: IpAddr) -> anyhow::Result<String> {
    let to = SocketAddr::new(vip, HTTP_PORT);
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(to),
        socket2::Type::STREAM,
        None,
    )?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), PAGE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PAGE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let body = page.rsplit("\r\n").next().unwrap_or_default();
    anyhow::ensure!(body.contains(" for "), "no page: {page:?}");
    Ok(body.trim().to_owned())
}

#[test]
fn clients_come_back_to_their_backends_over_a_change_of_backends_and_the_holders_power_off() {
    let site = Site::start();
    site.put(&[("b1", 1), ("b2", 1)]);
    let all = ["n1", "n2", "n3"];
    let holder = site
        .cluster
        .wait_for_holder(&vips(), "a holder", |_| true)
        .unwrap();
    std::thread::sleep(GRACE);
    site.turned(&all, &["b1", "b2"]);
    let before = site.served();
    let used: BTreeSet<_> = before.values().map(String::as_str).collect();
    assert_eq!(used, BTreeSet::from(["b1", "b2"]));

    // One more, for whom nearly everybody would be by the table.
    site.put(&[("b1", 1), ("b2", 1), ("b3", 256)]);
    site.turned(&all, &["b3"]);
    assert_eq!(site.served(), before, "the same holder");

    // Who would hold it next knows them all by now.
    let rest: Vec<&str> = all.into_iter().filter(|it| *it != holder.name()).collect();
    let kept: BTreeMap<_, _> = before
        .iter()
        .map(|(client, name)| (*client, (name.clone(), true)))
        .collect();
    wait("another node knows where the clients are", PATIENCE, || {
        let said = rest.iter().map(|node| site.said(node, CAME));
        let said = said.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(said.contains(&kept).then_some(()))
    })
    .unwrap();
    holder.power_off().unwrap();
    let other = |name: &str| name != holder.name();
    let next = site
        .cluster
        .wait_for_holder(&vips(), "another holds", other)
        .unwrap();
    let next = next.name();
    wait("the first page", PATIENCE, || {
        let inside = site.cluster.lab().client().netns()?;
        let [client, _] = clients(CAME)[0];
        inside.enter(|| page(client, vips()[0]).map(Some))
    })
    .unwrap();
    // Nobody has told that one before: it has only now become the next one.
    let [last] = rest[..]
        .iter()
        .filter(|it| **it != next)
        .collect::<Vec<_>>()[..]
    else {
        panic!("{next} of {rest:?}");
    };
    wait("the last node knows, too", PATIENCE, || {
        Ok((site.said(last, CAME)? == kept).then_some(()))
    })
    .unwrap();
    assert_eq!(site.served(), before, "the next holder");
    let [client, _] = clients(CAME)[0];
    let path = format!(
        "/v1/lb/trace?client={client}&client_port=40000&address={}&port={HTTP_PORT}",
        vips()[0]
    );
    let traced: Value = site.cluster.node(next).api().get(&path).unwrap();
    assert_eq!(traced["affinity"], true, "{traced}");

    // One drains: its clients go elsewhere, and stay there when it is back.
    site.put(&[("b1", 0), ("b2", 1), ("b3", 256)]);
    wait("the new holder has it", PATIENCE, || {
        let said = site.said(next, CAME)?;
        Ok(said.values().all(|(name, _)| name != "b1").then_some(()))
    })
    .unwrap();
    let drained = site.served();
    for (client, name) in &before {
        let now = &drained[client];
        if name == "b1" {
            assert_ne!(now, "b1", "{client}");
        } else {
            assert_eq!(now, name, "{client}");
        }
    }
    site.put(&[("b1", 256), ("b2", 1), ("b3", 1)]);
    site.turned(&[next], &["b1"]);
    assert_eq!(site.served(), drained, "it is back");
}
