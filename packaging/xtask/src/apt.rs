//! Debian packages that a task needs: looked for first, named aloud, installed only when missing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sh;

/// How to tell that a package's content is there already, whoever installed it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// A program on `PATH` (or in the sbin folders).
    Program(&'static str),
    /// A file, for headers and libraries.
    File(&'static str),
}

/// One thing that a task needs, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// What must be there.
    pub(crate) probe: Probe,
    /// Debian package name.
    pub(crate) package: &'static str,
}

/// A needed program.
pub(crate) const fn program(program: &'static str, package: &'static str) -> Need {
    Need {
        probe: Probe::Program(program),
        package,
    }
}

/// A needed file.
pub(crate) const fn file(path: &'static str, package: &'static str) -> Need {
    Need {
        probe: Probe::File(path),
        package,
    }
}

impl Need {
    fn present(&self) -> bool {
        match self.probe {
            Probe::Program(name) => sh::which(name).is_some(),
            Probe::File(path) => Path::new(path).exists(),
        }
    }

    fn what(&self) -> &'static str {
        match self.probe {
            Probe::Program(what) | Probe::File(what) => what,
        }
    }
}

/// Installs what is missing of `needs`; does and says nothing when all is there.
pub(crate) fn ensure(task: &str, needs: &[Need]) -> Result<()> {
    NoServices::end_of_an_interrupted_run();
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.present()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let list = packages.join(" ");
    let lacking = missing
        .iter()
        .map(|need| need.what())
        .collect::<Vec<_>>()
        .join(", ");
    if sh::which("apt-get").is_none() {
        bail!(
            "{task} needs {lacking}, and this system has no apt-get; install them with your package manager (Debian names: {list})"
        );
    }
    sh::require_root(
        &format!("installing {list} for {task}"),
        &format!("apt-get install {list}"),
    )?;
    println!("    {task}: {lacking} not found, installing from Debian: {list}");
    // Old or absent package lists are the usual reason for a failure, so a second try follows an update.
    if install(&packages).is_err() {
        sh::quiet("apt-get update", apt().arg("update"))
            .context("cannot refresh Debian's package lists")?;
        install(&packages).with_context(|| format!("cannot install {list}; {task} needs it"))?;
    }
    match missing.iter().find(|need| !need.present()) {
        Some(need) => bail!(
            "Debian package {} is installed but {} is still not there",
            need.package,
            need.what()
        ),
        None => Ok(()),
    }
}

fn install(packages: &[&str]) -> Result<()> {
    let _quiet = NoServices::begin()?;
    let title = format!("apt-get install {}", packages.join(" "));
    sh::quiet(
        &title,
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
}

/// Where Debian's maintainer scripts look whether they may start a service; 101 is "no".
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Ours, by which one that an interrupted run has left is known.
const NO: &[u8] = b"#!/bin/sh\n# made by vipd's xtask while it installs packages\nexit 101\n";

/// While it lives, what is installed is not started: a test needs nginx, and nobody needs one on port 80 of this machine.
/// A policy that is there already is somebody's choice, and stays.
struct NoServices {
    ours: bool,
}

impl NoServices {
    /// An interrupted run has left its policy behind, and there may be nothing left to install.
    fn end_of_an_interrupted_run() {
        if std::fs::read(POLICY).is_ok_and(|found| found == NO) {
            drop(Self { ours: true });
        }
    }

    fn begin() -> Result<Self> {
        let mut options = OpenOptions::new();
        match options
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY)
        {
            Ok(mut file) => {
                let wrote = file.write_all(NO);
                let made = Self { ours: true };
                wrote.with_context(|| format!("cannot write {POLICY}"))?;
                Ok(made)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self {
                ours: std::fs::read(POLICY).is_ok_and(|found| found == NO),
            }),
            Err(error) => Err(error).with_context(|| {
                format!("cannot make {POLICY}, which keeps what is installed from being started")
            }),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("warning: {POLICY} stays, remove it, or no service is started: {error}");
        }
    }
}

fn apt() -> std::process::Command {
    let mut apt = sh::command("apt-get");
    // Two dpkg runs at once happen on fresh machines (unattended upgrades); waiting beats failing.
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        ensure(
            "the test",
            &[program("sh", "dash"), file("/proc/self/status", "procps")],
        )
        .unwrap();
    }

    #[test]
    fn a_missing_program_and_a_missing_file_are_seen() {
        assert!(!program("no-such-program-here", "x").present());
        assert!(!file("/no/such/file", "x").present());
    }
}
