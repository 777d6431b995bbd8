//! iperf3: bytes over TCP, datagrams over UDP.

use std::cell::Cell;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::run;
use crate::cluster::{PATIENCE, wait};
use crate::lab::Host;

/// TCP and UDP port of the server. A client opens two connections to it, or one and a UDP exchange, and all must reach
/// the same server.
pub const PORT: u16 = 5201;
/// A transfer that takes longer has failed.
const BOUND: Duration = Duration::from_secs(20);
/// Bytes of a datagram: with all headers it fits into any link's MTU.
const DATAGRAM: u64 = 1200;

/// What became of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// Of which did not arrive.
    pub lost: u64,
}

/// Who asks whom.
#[derive(Clone, Debug)]
pub struct Iperf3<'a> {
    /// Where the client runs.
    pub client: &'a Host,
    /// The address that it uses.
    pub to: IpAddr,
    /// Where the server runs.
    pub server: &'a Host,
    /// One of its host's addresses. (At all of them it would answer datagrams from another one than they were sent to.)
    pub at: IpAddr,
    /// Whether a server was started there before.
    pub runs: Cell<bool>,
}

impl Iperf3<'_> {
    /// Sends for a second; how many bytes have arrived. (It can't be told to send so many bytes: the server ends with the
    /// client's last word, whatever is still on its way.)
    pub fn upload(&self) -> Result<u64> {
        arrived(&self.talk(&["--time", "1"])?)
    }

    /// Has the server send so many bytes; how many have arrived.
    pub fn download(&self, bytes: u64) -> Result<u64> {
        arrived(&self.talk(&["--reverse", "--bytes", &bytes.to_string()])?)
    }

    /// Sends datagrams with at least so many bytes in all, 2 Mbit a second: a receiver that has to wait for its CPU
    /// loses none.
    pub fn datagrams(&self, bytes: u64) -> Result<Datagrams> {
        let (length, bytes) = (DATAGRAM.to_string(), bytes.to_string());
        let mut how = vec!["--udp", "--bitrate", "2M", "--length", &length];
        how.extend(["--bytes", &bytes]);
        let said = self.talk(&how)?;
        let count = |key: &str| {
            let found = said["end"]["sum"][key].as_u64();
            found.with_context(|| format!("iperf3 did not say {key:?}: {said}"))
        };
        Ok(Datagrams {
            sent: count("packets")?,
            lost: count("lost_packets")?,
        })
    }

    fn talk(&self, how: &[&str]) -> Result<Value> {
        self.serve()?;
        let to = self.to.to_string();
        let mut arguments = vec!["--json", "--connect-timeout", "2000", "--client", &to];
        arguments.extend(how);
        let said = run(self.client, BOUND, "iperf3", &arguments)?;
        let said: Value =
            serde_json::from_str(&said).with_context(|| format!("iperf3 said no JSON:\n{said}"))?;
        ensure!(said["error"].is_null(), "iperf3 to {to}: {}", said["error"]);
        Ok(said)
    }

    /// Starts a server for one client, and waits until it listens. (One for many does not listen between two.)
    fn serve(&self) -> Result<()> {
        let (host, at) = (self.server, self.at);
        let name = format!("iperf3-{at}");
        let mut earlier = 0;
        if self.runs.replace(true) {
            // The client ends first.
            host.process(&name, |server| server.wait(PATIENCE))?;
            earlier = host.process(&name, |server| server.written())?;
        }
        let mut server = Command::new("iperf3");
        server.args(["--server", "--one-off", "--forceflush"]);
        host.spawn(&name, server.args(["--bind", &at.to_string()]))?;
        let listens = || {
            let says = host.process(&name, |server| server.says_since(earlier, "listening"))?;
            Ok(says.then_some(()))
        };
        // Its own word: a connection to try it would be a client, and a faulty one.
        let what = format!("iperf3 on {} listens at {at}", host.name());
        wait(&what, PATIENCE, listens)
    }
}

fn arrived(said: &Value) -> Result<u64> {
    let bytes = said["end"]["sum_received"]["bytes"].as_u64();
    bytes.with_context(|| format!("iperf3 did not say what has arrived: {said}"))
}
