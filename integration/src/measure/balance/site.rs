//! A client, a server, and between them one host for each way, with links of its own to both.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::json;

use super::way::{DATAGRAMS, HTTP, TRANSLATED, VIP, Way};
use crate::cluster::{Binaries, Cluster};
use crate::lab::run::feed;
use crate::lab::{Host, Lab, Mac};
use crate::tools;

/// The host with the server.
const SERVER: &str = "web";

/// All of it, running.
#[derive(Debug)]
pub(super) struct Site {
    cluster: Cluster,
}

impl Site {
    /// Sets the ways up, with nginx as the server and a cluster of one node as vipd.
    pub(super) fn start(binaries: &Binaries, ways: &[Way]) -> Result<Self> {
        let others = ways.iter().filter(|&&way| way != Way::Vipd);
        let mut hosts: Vec<&str> = others.map(|way| way.host()).collect();
        hosts.push(SERVER);
        let lab = Lab::with_backends(&[Way::Vipd.host()], &hosts)?;
        for &way in ways {
            wire(&lab, way).with_context(|| format!("cannot wire {}", way.name()))?;
        }
        tools::nginx(lab.host(SERVER), HTTP)?;
        for &way in ways {
            forward(&lab, way).with_context(|| format!("cannot set up {}", way.name()))?;
        }
        let cluster = Cluster::start(lab, binaries.clone(), 1)?;
        let site = Self { cluster };
        site.make_vip()?;
        Ok(site)
    }

    fn make_vip(&self) -> Result<()> {
        let api = self.cluster.leader_api()?;
        let pool = json!({ "spec": { "blocks": [{ "cidr": "10.77.0.96/28" }] } });
        api.put("/v1/pools/web", &pool)?;
        let spec = json!({
            "addresses": [VIP],
            "mode": "nat",
            "ports": [
                { "port": HTTP },
                { "port": DATAGRAMS, "target_port": TRANSLATED, "protocol": "udp" },
            ],
            "backends": [{ "address": Way::Vipd.server() }],
        });
        api.put("/v1/vips/web", &json!({ "spec": spec }))?;
        let held = self
            .cluster
            .wait_for_holder(&[VIP.into()], "a holder", |_| true);
        held.map(drop)
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
pub(super) fn from(way: Way) -> String {
    format!("from{}", way.number())
}

/// The Ethernet addresses of both ends of the link between client and way, the client's first.
pub(super) fn macs(way: Way) -> [Mac; 2] {
    [2, 1].map(|side| Mac([0x02, 0x76, 0x69, 0x71, way.number(), side]))
}

/// Makes the links of a way, and the routes over them.
fn wire(lab: &Lab, way: Way) -> Result<()> {
    let (client, host, server) = (lab.client(), lab.host(way.host()), lab.host(SERVER));
    let (to, front, from) = (to(way), front(way), from(way));
    let back = format!("back{}", way.number());
    let [mine, its] = macs(way);
    client.ip(&format!(
        "link add {to} address {mine} type veth peer name {front} address {its} netns {}\n\
         addr add {}/24 dev {to}\nlink set {to} up\n",
        host.namespace(),
        way.client()
    ))?;
    host.ip(&format!(
        "link add {back} type veth peer name {from} netns {}\n\
         addr add {}/24 dev {front}\nlink set {front} up\naddr add {}/24 dev {back}\nlink set {back} up\n",
        server.namespace(),
        way.front(),
        way.back()
    ))?;
    server.ip(&format!(
        "addr add {}/24 dev {from}\nlink set {from} up\nroute add {}/32 via {}\n",
        way.server(),
        way.client(),
        way.back()
    ))?;
    match way {
        Way::Routing => client.ip(&format!(
            "route add {}/32 via {}\n",
            way.server(),
            way.front()
        )),
        Way::Vipd => {
            client.ip(&format!("route add {VIP}/32 via {}\n", way.front()))?;
            server.ip(&format!("route add {VIP}/32 via {}\n", way.back()))
        }
        Way::Nftables | Way::Haproxy | Way::Nginx => Ok(()),
    }
}

/// What makes a host a way. vipd comes later, when all is wired.
fn forward(lab: &Lab, way: Way) -> Result<()> {
    let host = lab.host(way.host());
    let router = || host.netns()?.sysctl(&[("net/ipv4/ip_forward", "1")]);
    let web = SocketAddr::new(way.server().into(), HTTP);
    match way {
        Way::Routing => router(),
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
