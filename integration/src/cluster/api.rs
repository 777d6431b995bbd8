//! A very small reader of the REST API over a daemon's unix socket.
//!
//! Not the product's own client on purpose: a mistake shared by client and server would hide itself.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// One address of a VIP, as a daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressState {
    /// The VIP it belongs to.
    pub vip: String,
    /// The address.
    pub address: IpAddr,
    /// The pool it came from.
    pub pool: String,
    /// The node that holds it.
    pub holder: Option<String>,
    /// Its fencing token.
    pub epoch: u64,
    /// Whether its holder has asked the link who has it; it is not announced before.
    pub asked: bool,
}

/// The API of one daemon.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
    patience: Duration,
}

impl Api {
    /// The daemon behind `socket`; it has a second to answer.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            patience: Duration::from_secs(1),
        }
    }

    /// The same daemon with less time to answer, for those who poll.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// All addresses of all VIPs, from the daemon's own copy of the state: works without a quorum.
    pub fn addresses(&self) -> Result<Vec<AddressState>> {
        let vips = self.get("/v1/vips?consistency=local")?;
        let items = vips["items"].as_array().context("/v1/vips has no items")?;
        let mut states = Vec::new();
        for vip in items {
            for address in vip["status"]["addresses"].as_array().into_iter().flatten() {
                states.push(
                    read(vip, address).with_context(|| format!("cannot read the VIP {vip}"))?,
                );
            }
        }
        Ok(states)
    }

    /// `GET path`; anything but a success is an error with the answer's body.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.exchange("GET", path, "")
    }

    /// `POST path` with a JSON body; fails as [`Api::get`] does.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.exchange("POST", path, &body.to_string())
    }

    /// `PUT path` with a JSON body; fails as [`Api::get`] does.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.exchange("PUT", path, &body.to_string())
    }

    /// `DELETE path`; fails as [`Api::get`] does.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.exchange("DELETE", path, "")
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let (status, said) = self.ask(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!(
                "{method} {path} on {}: HTTP {status}: {said}",
                self.socket.display()
            );
        }
        Ok(said)
    }

    /// Whatever comes of a request: the status, and the body, `Null` where there is none.
    ///
    /// # Errors
    /// When no answer came.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let asked = || format!("{method} {path} on {}", self.socket.display());
        let answer = self.talk(method, path, body).with_context(asked)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(asked)?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let status = status.parse().with_context(asked)?;
        if body.is_empty() {
            return Ok((status, Value::Null));
        }
        // /healthz may answer in plain text: its status is the answer.
        let said = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        Ok((status, said))
    }

    fn talk(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn read(vip: &Value, address: &Value) -> Result<AddressState> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut conditions = address["conditions"].as_array().into_iter().flatten();
    Ok(AddressState {
        asked: !conditions.any(|it| it["reason"] == "address_unproven"),
        vip: text(&vip["name"]).ok_or_else(|| anyhow!("no name"))?,
        address: text(&address["address"])
            .ok_or_else(|| anyhow!("no address"))?
            .parse()?,
        pool: text(&address["pool"]).unwrap_or_default(),
        holder: text(&address["holder"]),
        epoch: address["epoch"]
            .as_u64()
            .ok_or_else(|| anyhow!("no epoch"))?,
    })
}
