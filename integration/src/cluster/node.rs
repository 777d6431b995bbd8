//! One daemon on one host.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Api, Binaries, PATIENCE, config, wait};
use crate::lab::Host;

/// The name under which a host knows its daemon.
const DAEMON: &str = "vipd";

/// What `vipd join` needs: an address and a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// `IP:PORT` of a member.
    pub address: String,
    /// The token.
    pub token: String,
}

/// A server of the lab seen as a node of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    host: &'a Host,
    binaries: &'a Binaries,
}

impl<'a> Node<'a> {
    /// The node on `host`, which need not be set up yet.
    pub fn new(host: &'a Host, binaries: &'a Binaries) -> Self {
        Self { host, binaries }
    }

    /// The host it runs on.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// Its config file.
    pub fn config(&self) -> PathBuf {
        self.host.disk().join("vipd.toml")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.host.disk().join("data")
    }

    /// Its API socket.
    pub fn socket(&self) -> PathBuf {
        self.host.runtime().join("api.sock")
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::new(&self.socket())
    }

    /// Where peers reach it.
    pub fn peer(&self) -> String {
        format!("{}:7400", self.host.v4())
    }

    /// `vipd init` with whatever comes of it.
    pub fn try_init(&self) -> Result<Output> {
        self.set_up(&["init"])
    }

    /// `vipd init`; the ticket for the next node, as read from what it prints.
    pub fn init(&self) -> Result<Ticket> {
        let said = succeed("vipd init", &self.try_init()?)?;
        self.adapt()?;
        ticket(&said).with_context(|| format!("`vipd init` printed no join command, but:\n{said}"))
    }

    /// `vipd join`.
    pub fn join(&self, ticket: &Ticket) -> Result<()> {
        succeed("vipd join", &self.try_join(ticket)?)?;
        self.adapt()
    }

    /// `vipd join` with whatever comes of it.
    pub fn try_join(&self, ticket: &Ticket) -> Result<Output> {
        self.set_up(&["join", &ticket.address, &ticket.token])
    }

    /// A ticket for one more node of this role (`voter` or `agent`), asked of this running one.
    pub fn join_ticket(&self, role: &str) -> Result<Ticket> {
        let said = self.vipctl(&["cluster", "token", "--role", role])?;
        ticket(&said).with_context(|| {
            format!("`vipctl cluster token` printed no join command, but:\n{said}")
        })
    }

    /// Starts the daemon and waits until its API answers.
    pub fn run(&self) -> Result<()> {
        let config = self.config();
        self.host.spawn(
            DAEMON,
            Command::new(&self.binaries.vipd)
                .envs(shipped_environment())
                .envs(self.added_environment())
                .args(["run", "--config"])
                .arg(config),
        )?;
        wait(
            &format!("vipd on {} answers on its API", self.host.name()),
            PATIENCE,
            || {
                if !self.host.process(DAEMON, |p| Ok(p.alive()))? {
                    bail!("vipd ended; its log ends with:\n{}", self.log_tail(20));
                }
                self.api().get("/healthz").map(Some)
            },
        )?;
        Ok(())
    }

    /// `kill -9`. What it put into the kernel stays.
    pub fn kill9(&self) -> Result<()> {
        self.host.kill9(DAEMON)
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        self.host.freeze(DAEMON)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.host.thaw(DAEMON)
    }

    /// SIGHUP, as `systemctl reload`, and waits until the daemon has begun anew.
    pub fn reload(&self) -> Result<()> {
        let before = self.host.process(DAEMON, |p| p.written())?;
        self.host.hang_up(DAEMON)?;
        let what = format!("vipd on {} has begun anew", self.host.name());
        wait(&what, PATIENCE, || {
            let begun = self
                .host
                .process(DAEMON, |p| p.says_since(before, " running "))?;
            Ok(begun.then_some(()))
        })
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&self, bound: Duration) -> Result<()> {
        let status = self.host.terminate(DAEMON, bound)?;
        if !status.success() {
            bail!(
                "vipd on {} ended with {status} after SIGTERM:\n{}",
                self.host.name(),
                self.log_tail(20)
            );
        }
        Ok(())
    }

    /// The last lines of the daemon's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.host
            .process(DAEMON, |p| Ok(p.tail(lines)))
            .unwrap_or_default()
    }

    /// Runs `vipd` on the host with whatever comes of it.
    pub fn vipd(&self, args: &[&str]) -> Result<Output> {
        self.host.run(Command::new(&self.binaries.vipd).args(args))
    }

    /// Runs `vipctl` against this daemon; what it printed, or its error as it reads.
    pub fn vipctl(&self, args: &[&str]) -> Result<String> {
        succeed(
            &format!("vipctl {}", args.join(" ")),
            &self.try_vipctl(args)?,
        )
    }

    /// Runs `vipctl` against this daemon with whatever comes of it.
    pub fn try_vipctl(&self, args: &[&str]) -> Result<Output> {
        let server = format!("unix:{}", self.socket().display());
        self.host.run(
            Command::new(&self.binaries.vipctl)
                .args(["--server", &server])
                .args(args),
        )
    }

    /// Changes one key of its config; it takes effect with the next [`Node::run`].
    pub fn configure(&self, section: &str, key: &str, value: impl Into<toml::Value>) -> Result<()> {
        config::put(&self.config(), section, key, value.into())
    }

    /// Puts a variable into the daemon's environment, as an administrator adds it to the unit; it takes effect with the next
    /// [`Node::run`].
    pub fn set_environment(&self, key: &str, value: &str) -> Result<()> {
        let line = format!("{key}={value}\n");
        let file = self.environment_file();
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, known + &line)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn environment_file(&self) -> PathBuf {
        self.host.disk().join("vipd.env")
    }

    /// What [`Node::set_environment`] has put there.
    fn added_environment(&self) -> Vec<(String, String)> {
        let known = std::fs::read_to_string(self.environment_file()).unwrap_or_default();
        let pairs = known.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn set_up(&self, verb: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binaries.vipd);
        command
            .args(verb)
            .arg("--config")
            .arg(self.config())
            .arg("--data-dir")
            .arg(self.data());
        command
            .args(["--name", self.host.name()])
            .args(["--listen", &self.peer()]);
        self.host.run(command.args(["--api", &self.api_address()]))
    }

    fn api_address(&self) -> String {
        format!("{}:7480", self.host.v4())
    }

    fn adapt(&self) -> Result<()> {
        let (config, socket) = (self.config(), self.socket());
        config::adapt(
            &config,
            &socket,
            &self.api_address(),
            self.host.pins(),
            self.host.interface(),
        )
    }
}

/// What the unit puts into the daemon's environment: the lab runs it as it is shipped.
fn shipped_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    const UNIT: &str = include_str!("../../../packaging/systemd/vipd.service");
    let lines = UNIT.lines().filter_map(|l| l.strip_prefix("Environment="));
    let pairs = lines.flat_map(str::split_whitespace);
    pairs.filter_map(|pair| pair.split_once('='))
}

/// Standard output of a command that had to succeed.
fn succeed(what: &str, done: &Output) -> Result<String> {
    if !done.status.success() {
        bail!(
            "`{what}` failed: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Finds `vipd join <address> <token>` in what a command printed.
fn ticket(said: &str) -> Option<Ticket> {
    let words: Vec<&str> = said
        .split_whitespace()
        .filter(|&word| word != "\\")
        .collect();
    let found = words
        .windows(4)
        .find(|w| w[0].ends_with("vipd") && w[1] == "join")?;
    Some(Ticket {
        address: found[2].to_owned(),
        token: found[3].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_gives_the_daemon_the_environment_of_its_unit() {
        let bound = "131072";
        let wanted = [
            ("MALLOC_MMAP_THRESHOLD_", bound),
            ("MALLOC_TRIM_THRESHOLD_", bound),
        ];
        assert!(shipped_environment().eq(wanted));
    }

    #[test]
    fn the_join_command_is_read_as_a_person_would() {
        let printed = "Set up.\nOn the next node, as root:\n\n  sudo vipd join 10.77.0.1:7400 \\\n    abc.def --name n2\n";
        let expected = Ticket {
            address: "10.77.0.1:7400".into(),
            token: "abc.def".into(),
        };
        assert_eq!(ticket(printed), Some(expected));
        assert_eq!(ticket("vipd join"), None);
    }
}
