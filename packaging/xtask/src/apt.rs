//! Debian packages that a task needs: looked for first, named aloud, installed only when missing.

use std::fs::{self, OpenOptions};
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
    with_new_lists(|| install(&packages))
        .with_context(|| format!("cannot install {list}; {task} needs it"))?;
    match missing.iter().find(|need| !need.present()) {
        Some(need) => bail!(
            "Debian package {} is installed but {} is still not there",
            need.package,
            need.what()
        ),
        None => Ok(()),
    }
}

/// Tries, and once more after an update: old or absent package lists are the usual reason for a failure.
fn with_new_lists<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    attempt().or_else(|_| {
        sh::require_root("refreshing Debian's package lists", "apt-get update")?;
        sh::quiet("apt-get update", apt().arg("update"))
            .context("cannot refresh Debian's package lists")?;
        attempt()
    })
}

/// The packages that a package of Debian depends on, by name.
pub(crate) fn depends_on(package: &str) -> Result<Vec<String>> {
    let said = sh::output(sh::command("apt-cache").args(["depends", package]))?;
    Ok(dependencies(&said))
}

fn dependencies(said: &str) -> Vec<String> {
    let lines = said.lines();
    let names = lines.filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::to_owned).collect()
}

/// Downloads packages and unpacks them into a folder that is not there yet; none of them is installed. Which ones is asked
/// again when the package lists are new.
pub(crate) fn unpack(into: &Path, packages: impl Fn() -> Result<Vec<String>>) -> Result<()> {
    let part = into.with_extension("part");
    let debs = part.join("debs");
    with_new_lists(|| {
        let packages = packages()?;
        if part.exists() {
            fs::remove_dir_all(&part)
                .with_context(|| format!("cannot empty {}", part.display()))?;
        }
        fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
        let mut download = apt();
        download.current_dir(&debs).arg("download").args(&packages);
        sh::quiet(&sh::describe(&download), &mut download)
    })?;
    let root = part.join("root");
    let list = || format!("cannot list {}", debs.display());
    for entry in fs::read_dir(&debs).with_context(list)? {
        let deb = entry.with_context(list)?.path();
        sh::run(sh::command("dpkg-deb").arg("-x").arg(deb).arg(&root))?;
    }
    fs::rename(&root, into).with_context(|| format!("cannot keep {}", into.display()))?;
    fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))
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
    fn dependencies_are_read_without_what_is_only_suggested() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: grub\n";
        assert_eq!(dependencies(said), ["linux-image-6.1.0-56-cloud-amd64"]);
    }

    #[test]
    fn a_missing_program_and_a_missing_file_are_seen() {
        assert!(!program("no-such-program-here", "x").present());
        assert!(!file("/no/such/file", "x").present());
    }
}
