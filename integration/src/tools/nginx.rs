//! nginx: a web server, and a proxy for TCP.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;

use super::{put, start};
use crate::lab::Host;

/// Path of a long file, the same on every host.
pub const BLOB: &str = "/blob";
/// Its length: many segments, and longer than any buffer on the way.
const BLOB_BYTES: usize = 8 << 20;

/// Starts a web server on `host`, on `port` of all its addresses. Each path is a page of one line: who answers, at what
/// address, for whom; and [`BLOB`] is a file, whose content is returned.
pub fn web(host: &Host, port: u16) -> Result<Vec<u8>> {
    // Each eight bytes are another number, so that nothing can be lost or swapped unseen.
    let numbers = 0..(BLOB_BYTES / 8) as u64;
    let blob: Vec<u8> = numbers.flat_map(u64::to_be_bytes).collect();
    let file = put(host, "blob", &blob)?;
    let server = format!(
        "server {{\n\
         listen {port} backlog=4096;\nlisten [::]:{port} backlog=4096;\n\
         location / {{ return 200 \"{} answered at $server_addr for $remote_addr\\n\"; }}\n\
         location {BLOB} {{ alias {}; }}\n\
         }}\n",
        host.name(),
        file.display()
    );
    servers(host, &server, port)?;
    Ok(blob)
}

/// Starts nginx on `host` with these `server` blocks, and what belongs beside them, and waits until it listens on `port`.
pub fn servers(host: &Host, servers: &str, port: u16) -> Result<()> {
    let config = format!(
        "{}events {{ worker_connections 4096; }}\n\
         http {{\n\
         access_log off;\nkeepalive_requests 1000000000;\ndefault_type text/plain;\n\
         {servers}}}\n",
        head(host, "1")
    );
    serve(host, &config, port)
}

/// Starts a proxy on `host`: what connects to `port` is connected to `to`. It has as many workers as there are CPUs.
pub fn stream(host: &Host, port: u16, to: SocketAddr) -> Result<()> {
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n{}\
         events {{ worker_connections 4096; }}\n\
         stream {{ server {{ listen {port} backlog=4096; proxy_pass {to}; }} }}\n",
        head(host, "auto")
    );
    serve(host, &config, port)
}

/// What is the same in each: nothing of it may meet another nginx of this machine.
fn head(host: &Host, workers: &str) -> String {
    let pid = host.runtime().join("nginx.pid");
    format!(
        "daemon off;\nuser root;\nworker_processes {workers};\npid {};\nerror_log stderr warn;\n",
        pid.display()
    )
}

fn serve(host: &Host, config: &str, port: u16) -> Result<()> {
    let config = put(host, "nginx.conf", config)?;
    // Before it has read that it is to write to standard error, it would write to its own folder.
    let mut nginx = Command::new("nginx");
    start(host, nginx.args(["-e", "stderr", "-c"]).arg(config), port)
}
