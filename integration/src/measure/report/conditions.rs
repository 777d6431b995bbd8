//! On what machine, in what state, with what versions: a figure without it is none.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;

use crate::cluster::Binaries;

/// The conditions of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// CPUs.
    pub(crate) cpus: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The load average of one minute when the run began.
    pub(crate) load: String,
    /// What was measured: one program and version each.
    pub(crate) versions: Vec<String>,
}

impl Conditions {
    /// As they are now.
    pub(crate) fn now(binaries: &Binaries) -> Self {
        let ask = |program: &str, arguments: &[&str]| {
            let mut asked = Command::new(program);
            asked.args(arguments);
            asked
        };
        Self::of([
            ask(&binaries.vipd.to_string_lossy(), &["--version"]),
            ask("keepalived", &["--version"]),
            ask("etcd", &["--version"]),
            ask("dpkg-query", &["-W", "-f", "ucarp ${Version}", "ucarp"]),
        ])
    }

    /// As they are now, with the first line that each of these commands says; those that there are not are left out.
    pub(crate) fn of(commands: impl IntoIterator<Item = Command>) -> Self {
        let said = |mut program: Command| {
            let output = program.output().ok()?;
            let all = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&all).into_owned();
            text.lines().next().map(|line| line.trim().to_owned())
        };
        Self {
            versions: commands.into_iter().filter_map(said).collect(),
            ..Self::machine()
        }
    }

    /// As they are now, where no other program than this is measured.
    pub(crate) fn machine() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpus: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            versions: Vec::new(),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} CPUs, Linux {}, load {} at the start",
            self.cpus, self.kernel, self.load
        )?;
        let mut versions = self.versions.iter();
        versions.try_for_each(|version| write!(f, "; {version}"))
    }
}
