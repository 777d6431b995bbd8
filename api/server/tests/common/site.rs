//! Pools and VIPs in few words, over HTTP: what is asked is JSON, what is told is addresses and a reason.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use vipd_api::memory::Memory;
use vipd_api_types::{Pool, Vip};
use vipd_client::{Client, Error, WriteOptions, Written};

use super::{Node, reason};

/// A cluster of three nodes, and its API.
pub struct Site {
    node: Node,
    pub client: Client,
}

impl Site {
    pub async fn new() -> Self {
        let node = Node::start().await;
        let client = node.client();
        Self { node, client }
    }

    /// The cluster behind the API.
    pub fn memory(&self) -> &Memory {
        &self.node.memory
    }

    /// The same, for another API in front of it.
    pub fn shared_memory(&self) -> Arc<Memory> {
        self.node.memory.clone()
    }

    /// Where the API listens.
    pub fn socket(&self) -> &Path {
        &self.node.socket
    }

    /// Makes or replaces a pool of these blocks, in the short form; `more` is the rest of its spec.
    pub async fn pool(&self, name: &str, blocks: &[&str], more: Value) -> Pool {
        let written = self.try_pool(name, blocks, more, WriteOptions::default());
        done(written.await)
    }

    pub async fn try_pool(
        &self,
        name: &str,
        blocks: &[&str],
        more: Value,
        how: WriteOptions,
    ) -> Result<Written<Pool>, Error> {
        let block = |text: &&str| {
            let short = vipd_api_types::Block::from_short(text);
            serde_json::to_value(short).unwrap()
        };
        let mut spec = more;
        spec["blocks"] = blocks.iter().map(block).collect();
        self.client
            .put::<Pool>(name, &json!({ "spec": spec }), how)
            .await
    }

    /// Makes or replaces a VIP.
    pub async fn vip(&self, name: &str, spec: Value) -> Vip {
        self.labelled(name, json!({}), spec).await
    }

    pub async fn labelled(&self, name: &str, labels: Value, spec: Value) -> Vip {
        let body = json!({ "labels": labels, "spec": spec });
        let written = self.client.put::<Vip>(name, &body, WriteOptions::default());
        done(written.await)
    }

    pub async fn delete(&self, name: &str) {
        let how = WriteOptions::default();
        self.client.delete::<Vip>(name, how).await.unwrap();
    }

    /// Deletes a pool, or says why not.
    pub async fn delete_pool(&self, name: &str, force: bool) -> Result<(), String> {
        let how = WriteOptions {
            force,
            ..WriteOptions::default()
        };
        match self.client.delete::<Pool>(name, how).await {
            Ok(_) => Ok(()),
            refused @ Err(_) => Err(reason(refused)),
        }
    }

    /// The addresses of a VIP, and why it waits, if it does.
    pub async fn state(&self, name: &str) -> (Vec<String>, Option<String>) {
        let vip = self.client.get::<Vip>(name).await.unwrap();
        (addresses(&vip), waits(&vip))
    }

    /// Asserts that a VIP has these addresses, and waits for nothing that it needs.
    pub async fn has(&self, name: &str, wanted: &[&str]) {
        let (addresses, waits) = self.state(name).await;
        assert_eq!(addresses, wanted, "{name}");
        assert_eq!(waits, None, "{name}");
    }

    /// Asserts that a VIP has these addresses, and waits for this reason.
    pub async fn waits(&self, name: &str, has: &[&str], reason: &str) {
        let (addresses, waits) = self.state(name).await;
        assert_eq!(addresses, has, "{name}");
        assert_eq!(waits.as_deref(), Some(reason), "{name}");
    }

    /// The metrics, as text.
    pub async fn metrics(&self) -> String {
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        super::http(self.node.metrics, request).await
    }

    /// Total, used and available addresses of a pool.
    pub async fn counts(&self, pool: &str, family: &str) -> [u128; 3] {
        let pool = self.client.get::<Pool>(pool).await.unwrap();
        let families = pool.status.families;
        let count = match family {
            "ipv4" => families.ipv4,
            "ipv6" => families.ipv6,
            other => panic!("{other}"),
        };
        let count = count.unwrap();
        [count.total, count.used, count.available]
    }
}

pub fn addresses(vip: &Vip) -> Vec<String> {
    let addresses = vip.status.addresses.iter();
    addresses.map(|it| it.address.to_string()).collect()
}

/// Why a VIP waits, if it does.
pub fn waits(vip: &Vip) -> Option<String> {
    let mut conditions = vip.status.conditions.iter();
    let satisfied = conditions.find(|it| it.kind == "satisfied").unwrap();
    (!satisfied.status).then(|| satisfied.reason.clone())
}

fn done<T: std::fmt::Debug>(written: Result<Written<T>, Error>) -> T {
    super::done(written)
}

/// The spec of a VIP that asks for these very addresses.
pub fn at(addresses: &[&str]) -> Value {
    json!({ "addresses": addresses })
}

/// The spec of a VIP that asks for one IPv4 address.
pub fn v4() -> Value {
    json!({ "families": "ipv4" })
}

/// `v4` with more.
pub fn v4_and(more: Value) -> Value {
    but(v4(), more)
}

/// The spec of a VIP with `10.9.0.1` behind TCP port 80, in `nat` mode.
pub fn nat() -> Value {
    json!({
        "families": "ipv4",
        "mode": "nat",
        "ports": [{ "port": 80 }],
        "backends": [{ "address": "10.9.0.1" }],
    })
}

/// Writes a VIP that is refused: the reason, and what else is told.
pub async fn refused(site: &Site, spec: Value) -> (String, String) {
    let body = json!({ "spec": spec });
    let how = WriteOptions::default();
    let error = site.client.put::<Vip>("www", &body, how).await.unwrap_err();
    let told = error.to_string();
    (reason::<()>(Err(error)), told)
}

/// A spec with this instead, or more.
pub fn but(mut spec: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}
