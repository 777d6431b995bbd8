//! A client, a server, and between them one host for each way: with a link of its own to both, or with one that they share.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::way::{Arms, DATAGRAMS, HTTP, TRANSLATED, Way};
use crate::cluster::{Binaries, Cluster, PATIENCE, wait};
use crate::lab::run::feed;
use crate::lab::{Host, Lab, Mac};
use crate::tools;

/// The host with the server.
const SERVER: &str = "web";

/// All of it, running.
#[derive(Debug)]
pub(super) struct Site {
    cluster: Cluster,
    arms: Arms,
}

impl Site {
    /// Sets the ways up, with nginx as the server where it has links of its own, and one cluster of vipd, whose nodes hold a
    /// VIP each.
    pub(super) fn start(binaries: &Binaries, ways: &[Way], arms: Arms) -> Result<Self> {
        let (nodes, others): (Vec<Way>, Vec<Way>) = ways.iter().partition(|it| it.vip().is_some());
        let mut hosts: Vec<&str> = others.iter().map(|way| way.host()).collect();
        hosts.push(SERVER);
        let servers: Vec<&str> = nodes.iter().map(|way| way.host()).collect();
        let lab = Lab::with_backends(&servers, &hosts)?;
        for &way in ways {
            let wired = match arms {
                Arms::One => wire_one(&lab, way),
                Arms::Two => wire_two(&lab, way),
            };
            wired.with_context(|| format!("cannot wire {}", way.name()))?;
        }
        tools::nginx(lab.host(SERVER), HTTP)?;
        for &way in ways {
            forward(&lab, way).with_context(|| format!("cannot set up {}", way.name()))?;
        }
        let cluster = Cluster::start_with(lab, binaries.clone(), nodes.len(), |node| {
            node.configure("announce", "interfaces", vec!["^front"])?;
            if node.host().name() == Way::Xdp.host() {
                node.configure("balance", "xdp", "force")?;
            }
            Ok(())
        })?;
        let site = Self { cluster, arms };
        site.make_vips(&nodes)?;
        Ok(site)
    }

    fn make_vips(&self, nodes: &[Way]) -> Result<()> {
        let api = self.cluster.leader_api()?;
        for way in nodes {
            let (name, vip) = (way.host(), way.vip().context("vipd without a VIP")?);
            let pool = json!({ "spec": { "blocks": [{ "start": vip, "stop": vip }] } });
            api.put(&format!("/v1/pools/{name}"), &pool)?;
            let spec = json!({ "spec": {
                "addresses": [vip],
                "mode": "nat",
                "ports": [
                    { "port": HTTP },
                    { "port": DATAGRAMS, "target_port": TRANSLATED, "protocol": "udp" },
                ],
                "backends": [{ "address": way.server() }],
            }});
            api.put(&format!("/v1/vips/{name}"), &spec)?;
            let what = format!("{name} holds {vip}");
            self.cluster
                .wait_for_holder(&[vip.into()], &what, |holder| holder == name)?;
        }
        if nodes.contains(&Way::Xdp) {
            self.takes_the_short_way(Way::Xdp)?;
        }
        Ok(())
    }

    /// Waits until the way's daemon says that XDP is used on its link.
    fn takes_the_short_way(&self, way: Way) -> Result<()> {
        let (name, front) = (way.host(), front(way));
        wait(&format!("{name} uses XDP on {front}"), PATIENCE, || {
            let node = self.cluster.node(name).api();
            let node = node.get(&format!("/v1/nodes/{name}"))?;
            let all = node["status"]["interfaces"].as_array();
            let mut all = all.into_iter().flatten();
            let found = all.find(|it| it["name"] == front.as_str());
            let why = found.and_then(|it| it["xdp"]["why"].as_str());
            let used = found.and_then(|it| it["xdp"]["used"].as_bool());
            ensure!(used != Some(false), "XDP is not used on {front}: {why:?}");
            Ok(used.map(drop))
        })
    }

    pub(super) fn client(&self) -> &Host {
        self.cluster.lab().client()
    }

    pub(super) fn server(&self) -> &Host {
        self.cluster.lab().host(SERVER)
    }

    /// The host of a way.
    pub(super) fn host(&self, way: Way) -> &Host {
        self.cluster.lab().host(way.host())
    }

    /// Where packets for the server arrive that a way has forwarded: a host, and its interface.
    pub(super) fn arrival(&self, way: Way) -> (&Host, String) {
        match self.arms {
            Arms::One => (self.client(), to(way)),
            Arms::Two => (self.server(), from(way)),
        }
    }
}

/// The client's interface on the link to a way.
pub(super) fn to(way: Way) -> String {
    format!("to{}", way.number())
}

/// The way's own on that link.
pub(super) fn front(way: Way) -> String {
    format!("front{}", way.number())
}

/// The server's on the link to a way.
fn from(way: Way) -> String {
    format!("from{}", way.number())
}

/// The Ethernet addresses of both ends of the link between client and way, the client's first.
pub(super) fn macs(way: Way) -> [Mac; 2] {
    [2, 1].map(|side| Mac([0x02, 0x76, 0x69, 0x71, way.number(), side]))
}

/// Makes the link between client and way.
fn wire_client(lab: &Lab, way: Way) -> Result<()> {
    let (client, host) = (lab.client(), lab.host(way.host()));
    let (to, front) = (to(way), front(way));
    let [mine, its] = macs(way);
    client.ip(&format!(
        "link add {to} address {mine} type veth peer name {front} address {its} netns {}\n\
         addr add {}/24 dev {to}\nlink set {to} up\n",
        host.namespace(),
        way.client()
    ))?;
    // The client's answer to a question for its MAC would be lost among the frames that it sends.
    host.ip(&format!(
        "addr add {}/24 dev {front}\nlink set {front} up\n\
         neigh replace {} lladdr {mine} dev {front} nud permanent\n",
        way.front(),
        way.client()
    ))
}

/// The client's end of the link is the server's, too: to the way, the server is behind the client.
fn wire_one(lab: &Lab, way: Way) -> Result<()> {
    wire_client(lab, way)?;
    let host = lab.host(way.host());
    host.ip(&format!(
        "route add {}/32 via {}\n",
        way.server(),
        way.client()
    ))?;
    // A router that sends a packet back where it came from would tell its sender of the shorter way.
    let redirects =
        ["all".to_owned(), front(way)].map(|name| format!("net/ipv4/conf/{name}/send_redirects"));
    let off: Vec<_> = redirects.iter().map(|key| (key.as_str(), "0")).collect();
    host.netns()?.sysctl(&off)
}

/// Makes the links of a way, and the routes over them.
fn wire_two(lab: &Lab, way: Way) -> Result<()> {
    wire_client(lab, way)?;
    let (client, host, server) = (lab.client(), lab.host(way.host()), lab.host(SERVER));
    let (from, back) = (from(way), format!("back{}", way.number()));
    host.ip(&format!(
        "link add {back} type veth peer name {from} netns {}\n\
         addr add {}/24 dev {back}\nlink set {back} up\n",
        server.namespace(),
        way.back()
    ))?;
    server.ip(&format!(
        "addr add {}/24 dev {from}\nlink set {from} up\nroute add {}/32 via {}\n",
        way.server(),
        way.client(),
        way.back()
    ))?;
    match (way, way.vip()) {
        (_, Some(vip)) => server.ip(&format!("route add {vip}/32 via {}\n", way.back())),
        (Way::Routing, None) => client.ip(&format!(
            "route add {}/32 via {}\n",
            way.server(),
            way.front()
        )),
        (_, None) => Ok(()),
    }
}

/// What makes a host a way. vipd itself comes later, when all is wired.
fn forward(lab: &Lab, way: Way) -> Result<()> {
    let host = lab.host(way.host());
    let router = || host.netns()?.sysctl(&[("net/ipv4/ip_forward", "1")]);
    let web = SocketAddr::new(way.server().into(), HTTP);
    match way {
        Way::Routing | Way::Xdp => router(),
        Way::Vipd => Ok(()),
        Way::Nftables => {
            router()?;
            let (front, server) = (way.front(), way.server());
            let rules = format!(
                "table ip lb {{\nchain prerouting {{\ntype nat hook prerouting priority dstnat; policy accept;\n\
                 ip daddr {front} tcp dport {HTTP} dnat to {server}:{HTTP}\n\
                 ip daddr {front} udp dport {DATAGRAMS} dnat to {server}:{TRANSLATED}\n}}\n}}\n"
            );
            host.netns()?.enter(|| feed("nft", &["-f", "-"], &rules))
        }
        Way::Haproxy => tools::haproxy(host, HTTP, web),
        Way::Nginx => tools::nginx_stream(host, HTTP, web),
    }
}
