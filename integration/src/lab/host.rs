//! One host: a namespace, a cable to the switch, a disk, and the processes that run on it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::netns::{self, NetNs};
use super::process::Process;
use super::run;
use crate::probe::Responder;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A host of the lab. All methods take `&self`; faults may come from any thread.
#[derive(Debug)]
pub struct Host {
    name: String,
    number: u8,
    ns_name: String,
    switch: NetNs,
    dir: PathBuf,
    pins: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while the host is without power.
    ns: Option<NetNs>,
    processes: BTreeMap<String, Process>,
    serves: bool,
    responder: Option<Responder>,
}

impl Host {
    pub(super) fn build(
        lab: &str,
        dir: &Path,
        switch: &NetNs,
        name: &str,
        number: u8,
    ) -> Result<Self> {
        let host = Self {
            name: name.to_owned(),
            number,
            ns_name: format!("{lab}-{name}"),
            switch: switch.clone(),
            dir: dir.join(name),
            pins: dir.join("bpf").join(name),
            state: Mutex::default(),
        };
        fs::create_dir(&host.dir)?;
        host.power_on()?;
        Ok(host)
    }

    /// Its name, which is also the name of its port on the switch.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ethernet address of its interface; it survives a power cut.
    pub fn mac(&self) -> Mac {
        Mac([0x02, 0x76, 0x69, 0x70, 0x00, self.number])
    }

    /// Its own IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its own IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// The name of its interface.
    pub fn interface(&self) -> &'static str {
        "eth0"
    }

    /// Its disk: survives everything.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Its `/run`: empty after each power cut.
    pub fn runtime(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A folder on a BPF file system: survives its processes, gone after a power cut.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The name of its namespace, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.ns_name
    }

    /// The namespace itself; an error while the host is without power.
    pub fn netns(&self) -> Result<NetNs> {
        self.state().ns.clone().ok_or_else(|| self.dark())
    }

    /// Runs a command on the host to its end, whatever its exit code.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        self.netns()?.enter(|| run::output(command))
    }

    /// Runs several `ip` commands on the host, one a line.
    pub fn ip(&self, batch: &str) -> Result<()> {
        run::ip(self.netns()?.name(), batch)
    }

    /// Starts a program on the host under a name of the caller's; replaces an ended one of that name.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<()> {
        let ns = self.netns()?;
        let log = self.dir.join(format!("{name}.log"));
        let process = ns.enter(|| Process::start(name, command, &log))?;
        if let Some(mut old) = self.state().processes.insert(name.to_owned(), process) {
            old.kill9()?;
        }
        Ok(())
    }

    /// Does something with the process `name`, e.g. `host.process("vipd", |p| p.freeze())`.
    pub fn process<R>(&self, name: &str, act: impl FnOnce(&mut Process) -> Result<R>) -> Result<R> {
        let mut state = self.state();
        let process = state
            .processes
            .get_mut(name)
            .ok_or_else(|| anyhow!("no process {name:?} runs on {}", self.name))?;
        act(process)
    }

    /// `kill -9` for the process `name`: what the kernel holds for it stays, as after any crash.
    pub fn kill9(&self, name: &str) -> Result<()> {
        self.process(name, Process::kill9)
    }

    /// SIGSTOP for the process `name`.
    pub fn freeze(&self, name: &str) -> Result<()> {
        self.process(name, |p| p.freeze())
    }

    /// SIGCONT for the process `name`.
    pub fn thaw(&self, name: &str) -> Result<()> {
        self.process(name, |p| p.thaw())
    }

    /// SIGHUP for the process `name`.
    pub fn hang_up(&self, name: &str) -> Result<()> {
        self.process(name, |p| p.hang_up())
    }

    /// Sends `signal` to every process on the host: for programs of several processes.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        netns::signal_all(self.netns()?.name(), signal)
    }

    /// The processes on the host.
    pub fn pids(&self) -> Result<Vec<u32>> {
        netns::pids(self.netns()?.name())
    }

    /// SIGTERM for the process `name`; waits up to `bound` for it to end.
    pub fn terminate(&self, name: &str, bound: Duration) -> Result<ExitStatus> {
        self.process(name, |p| p.terminate(bound))
    }

    /// Starts the responders that name this host, over UDP and HTTP, on every address it has or will
    /// have. They start again with the host after a power cut.
    pub fn serve(&self) -> Result<()> {
        let ns = self.netns()?;
        let mut state = self.state();
        state.serves = true;
        state.responder = Some(Responder::start(&ns, &self.name)?);
        Ok(())
    }

    /// Puts a new, empty disk of `megabytes` in place of the host's: one that can be filled up.
    pub fn small_disk(&self, megabytes: u32) -> Result<()> {
        let (disk, size) = (self.disk(), format!("size={megabytes}m"));
        mount(
            Some("disk"),
            &disk,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .with_context(|| format!("cannot mount a small disk on {}", disk.display()))
    }

    /// The power is cut. To the others it looks exactly so: the link goes first, nobody says goodbye.
    /// What a real power cut would not leave is gone too: processes, addresses, kernel maps, `/run`.
    ///
    /// Writes that a process did not sync are *not* lost: its page cache is the machine's.
    pub fn power_off(&self) -> Result<()> {
        let mut state = self.state();
        let ns = state.ns.take().ok_or_else(|| self.dark())?;
        run::ip(
            self.switch.name(),
            &format!("link set {0} down\nlink del {0}\n", self.name),
        )?;
        netns::kill_all(ns.name())?;
        for (_, mut process) in std::mem::take(&mut state.processes) {
            process.kill9()?;
        }
        state.responder = None;
        ns.remove()?;
        for gone in [&self.pins, &self.runtime()] {
            if gone.exists() {
                fs::remove_dir_all(gone)
                    .with_context(|| format!("cannot remove {}", gone.display()))?;
            }
        }
        Ok(())
    }

    /// The power is back: same cable, same Ethernet address, same disk, nothing running yet but the
    /// responders (if it had any).
    pub fn power_on(&self) -> Result<()> {
        for dir in [self.disk(), self.runtime()] {
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let ns = NetNs::create(&self.ns_name)?;
        ns.sysctl(&[
            // Addresses are usable at once; nobody else can have them.
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/dad_transmits", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ])?;
        run::ip(
            self.switch.name(),
            &format!(
                "link add {port} type veth peer name eth0 address {mac} netns {ns}\n\
                 link set {port} master br0 up\n",
                port = self.name,
                mac = self.mac(),
                ns = ns.name()
            ),
        )?;
        run::ip(
            ns.name(),
            &format!(
                "link set lo up\naddr add {}/16 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n",
                self.v4(),
                self.v6()
            ),
        )?;
        let mut state = self.state();
        if state.serves {
            state.responder = Some(Responder::start(&ns, &self.name)?);
        }
        state.ns = Some(ns);
        Ok(())
    }

    /// The switch's side of the cable goes down: the host sees its carrier vanish.
    pub fn port_down(&self) -> Result<()> {
        run::ip(
            self.switch.name(),
            &format!("link set {} down\n", self.name),
        )
    }

    /// The switch's side of the cable comes up again.
    pub fn port_up(&self) -> Result<()> {
        run::ip(self.switch.name(), &format!("link set {} up\n", self.name))
    }

    /// The files with the output of every process that it ran.
    pub fn logs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        logs.sort();
        logs
    }

    /// The last lines of every process's log, by process name.
    pub(super) fn tails(&self, lines: usize) -> Vec<(String, String)> {
        let state = self.state();
        state
            .processes
            .iter()
            .map(|(name, p)| (name.clone(), p.tail(lines)))
            .collect()
    }

    /// Stops everything of ours on the host; the namespace itself goes with the lab.
    pub(super) fn halt(&self) {
        let mut state = self.state();
        state.responder = None;
        for process in state.processes.values_mut() {
            if let Err(e) = process.kill9() {
                eprintln!("warning: {e:#}");
            }
        }
    }

    fn dark(&self) -> anyhow::Error {
        anyhow!("{} is without power", self.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
