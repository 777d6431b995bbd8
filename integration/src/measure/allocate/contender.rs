//! Who allocates: three voters of vipd, or three members of etcd, on the same three hosts.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::http::{Connection, Place};
use crate::cluster::{Cluster, PATIENCE, wait};
use crate::lab::Host;
use crate::measure::system::SERVERS;

/// Addresses that no host of the lab can hold, so that allocation alone is measured: 4 million.
const BLOCK: (&str, Ipv4Addr) = ("10.128.0.0/10", Ipv4Addr::new(10, 128, 0, 0));
const POOL: &str = "bench";
/// The name under which a host knows its member of etcd.
const ETCD: &str = "etcd";
/// Where etcd listens for clients and for peers.
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Vipd,
    Etcd,
}

impl Contender {
    pub(super) const BOTH: [Self; 2] = [Self::Vipd, Self::Etcd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vipd => "vipd",
            Self::Etcd => "etcd",
        }
    }

    /// Where clients reach the member on this host: without TLS, and without a cable between.
    pub(super) fn place(self, cluster: &Cluster, host: &Host) -> Place {
        match self {
            Self::Vipd => Place::Unix(cluster.node(host.name()).socket()),
            Self::Etcd => Place::Tcp((host.v4(), CLIENTS).into()),
        }
    }

    /// Allocates one address for a new VIP.
    ///
    /// vipd chooses the address. A client of etcd has to choose it by itself; here it always chooses well, so that its
    /// one transaction always succeeds: that it is nobody's is compared, then address and VIP are put.
    pub(super) fn allocate(self, connection: &mut Connection, next: &AtomicU32) -> Result<()> {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let vip = format!("vip-{number:08}");
        match self {
            Self::Vipd => {
                let body = json!({"name": vip, "spec": {"pool": POOL, "families": "ipv4"}});
                let (status, said) = connection.post("/v1/vips", &body.to_string())?;
                let said = String::from_utf8_lossy(&said);
                ensure!(
                    status == 201 && said.contains("\"address\":\"10."),
                    "vipd gave VIP {vip} no address: HTTP {status}: {said}"
                );
            }
            Self::Etcd => {
                let address = Ipv4Addr::from(u32::from(BLOCK.1) + number).to_string();
                let key = BASE64.encode(format!("address/{address}"));
                let put = |key: &str, value: &str| json!({"requestPut": {"key": key, "value": BASE64.encode(value)}});
                let body = json!({
                    "compare": [{"key": key, "target": "CREATE", "result": "EQUAL", "createRevision": "0"}],
                    "success": [put(&key, &vip), put(&BASE64.encode(format!("vip/{vip}")), &address)],
                });
                let (status, said) = connection.post("/v3/kv/txn", &body.to_string())?;
                let said = String::from_utf8_lossy(&said);
                ensure!(
                    status == 200 && said.contains("\"succeeded\":true"),
                    "etcd did not put {address}: HTTP {status}: {said}"
                );
            }
        }
        Ok(())
    }

    /// The process of its member on this host.
    pub(super) fn pid(self, host: &Host) -> Result<u32> {
        let name = match self {
            Self::Vipd => "vipd",
            Self::Etcd => ETCD,
        };
        host.process(name, |process| Ok(process.pid()))
    }
}

/// Makes the pool of vipd.
pub(super) fn make_pool(cluster: &Cluster) -> Result<()> {
    let made = ["pool", "create", POOL, "--block", BLOCK.0];
    cluster.vipctl(&made).map(drop)
}

/// Starts etcd on all servers, as Debian ships it, with nothing set but names and addresses.
pub(super) fn start_etcd(cluster: &Cluster) -> Result<()> {
    let url = |host: &Host, port: u16| format!("http://{}:{port}", host.v4());
    let hosts = SERVERS.map(|name| cluster.lab().host(name));
    let all = hosts.map(|host| format!("{}={}", host.name(), url(host, PEERS)));
    for host in hosts {
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", host.name(), "--initial-cluster", &all.join(",")]);
        etcd.arg("--data-dir").arg(host.disk().join("etcd"));
        for (flags, port) in [
            (
                ["--listen-peer-urls", "--initial-advertise-peer-urls"],
                PEERS,
            ),
            (["--listen-client-urls", "--advertise-client-urls"], CLIENTS),
        ] {
            for flag in flags {
                etcd.args([flag, &url(host, port)]);
            }
        }
        host.spawn(ETCD, &mut etcd)?;
    }
    for host in hosts {
        let place = Contender::Etcd.place(cluster, host);
        let what = format!("etcd on {} can read", host.name());
        let answers = || {
            let key = json!({"key": BASE64.encode("address/")}).to_string();
            let said = host
                .netns()?
                .enter(|| Connection::open(&place)?.post("/v3/kv/range", &key))?;
            Ok((said.0 == 200).then_some(()))
        };
        wait(&what, PATIENCE, answers)?;
    }
    Ok(())
}
