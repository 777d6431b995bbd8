//! haproxy: a proxy for TCP.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;

use super::{put, start};
use crate::lab::Host;

/// Starts haproxy on `host`: what connects to `port` is connected to `to`. Everything else is as Debian's haproxy has it
/// by itself: as many threads as CPUs.
pub fn serve(host: &Host, port: u16, to: SocketAddr) -> Result<()> {
    let config = format!(
        "defaults\n    mode tcp\n    maxconn 4096\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n\
         frontend in\n    bind :{port}\n    default_backend out\n\
         backend out\n    server web {to}\n"
    );
    let config = put(host, "haproxy.conf", config)?;
    start(
        host,
        Command::new("haproxy").arg("-db").arg("-f").arg(config),
        port,
    )
}
