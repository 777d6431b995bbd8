//! Programs of others, as sysadmins use them to look at a service: what they say of it is worth more than what clients
//! of our own say. All are Debian's; `cargo xtask test` and `bench` install what is missing.

mod haproxy;
mod iperf3;
mod nginx;
mod traceroute;
mod wrk;

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::{PATIENCE, wait};
use crate::lab::Host;

pub use haproxy::serve as haproxy;
pub use iperf3::{Datagrams, Iperf3, PORT as IPERF3_PORT};
pub use nginx::{BLOB, servers as nginx_servers, stream as nginx_stream, web as nginx};
pub use traceroute::{Question, hops};
pub use wrk::{Answered, Connections, Load, load};

/// Exit codes of `timeout`: the time is over; there is no such program.
const LATE: i32 = 124;
const ABSENT: i32 = 127;

/// Runs a program on `host` to its end, for `bound` (whole seconds) at most: its standard output. That it is not
/// installed, takes longer, or ends with another exit code than 0 is an error that carries what it said.
pub fn run(host: &Host, bound: Duration, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", &bound.as_secs().to_string(), program]);
    let done = host.run(command.args(arguments))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(said);
    }
    let line = format!("`{program} {}` on {}", arguments.join(" "), host.name());
    let complaint = String::from_utf8_lossy(&done.stderr);
    match done.status.code() {
        Some(LATE) => bail!("{line} did not end within {bound:?}; it said:\n{said}{complaint}"),
        Some(ABSENT) => bail!(
            "{program} is not installed; `cargo xtask test` and `cargo xtask bench` install what they need: {complaint}"
        ),
        _ => bail!("{line} failed ({}):\n{said}{complaint}", done.status),
    }
}

/// Starts a server on `host` and waits until it takes connections on a TCP port.
fn start(host: &Host, command: &mut Command, port: u16) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    host.spawn(&program, command)?;
    let inside = host.netns()?;
    let listens = || {
        if !host.process(&program, |process| Ok(process.alive()))? {
            let last = host.process(&program, |process| Ok(process.tail(20)))?;
            bail!("{program} on {} ended:\n{last}", host.name());
        }
        inside.enter(|| match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error.into()),
        })
    };
    wait(
        &format!("{program} on {} listens on port {port}", host.name()),
        PATIENCE,
        listens,
    )
}

/// Writes a file onto the disk of `host`.
fn put(host: &Host, name: &str, content: impl AsRef<[u8]>) -> Result<std::path::PathBuf> {
    let path = host.disk().join(name);
    std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
