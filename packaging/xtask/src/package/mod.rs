//! `cargo xtask package`: a deb and an rpm in `target/packages`, checked before anybody installs them.
//!
//! What goes where is written once, in the two `package.metadata` tables of this crate's Cargo.toml; the files
//! themselves are the neighbours of this crate in packaging/.

mod boot;
mod contents;
mod inspect;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stage::Stages;
use crate::tools::{DEB, RPM};
use crate::{apt, needs, repo, sh};

/// How far to go.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Also install them in a small Debian that boots a real systemd; run, upgrade, remove and purge there.
    #[arg(long)]
    test: bool,
    /// Package the release programs that are in target/ already.
    #[arg(long)]
    no_build: bool,
}

/// The finished packages.
struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
}

/// Builds and checks the packages; with `--test` also lives through their whole life.
pub(crate) fn run(options: &Options) -> Result<()> {
    apt::ensure("packaging", needs::PACKAGE)?;
    let mut stages = Stages::new("package");
    let made = make(&mut stages, options);
    if let Some(packages) = made {
        stages.run("ask the daemon about its sample configuration", || {
            let stage = contents::staged();
            inspect::sample(&stage.join("vipd"), &stage)
        });
        stages.run("inspect the deb", || inspect::deb(&packages.deb));
        stages.run("inspect the rpm", || inspect::rpm(&packages.rpm));
        if options.test {
            stages.run(
                "install, run, upgrade and remove them under a real systemd",
                || boot::test(&packages.deb, &build_deb(2)?, &packages.rpm),
            );
        }
        println!("\n{}\n{}", packages.deb.display(), packages.rpm.display());
    }
    stages.finish()
}

/// Each step needs the one before, so the first failure ends the making.
fn make(stages: &mut Stages, options: &Options) -> Option<Packages> {
    if !options.no_build {
        stages.run("build vipd and vipctl (release)", || {
            sh::run(&mut sh::cargo("build --release -p vipd -p vipctl"))
        })?;
    }
    stages.run(
        "stage programs, manual pages and completions",
        contents::stage,
    )?;
    let deb = stages.run("deb", || build_deb(1))?;
    let rpm = stages.run("rpm", build_rpm)?;
    Some(Packages { deb, rpm })
}

/// Where the finished packages go.
fn dir() -> PathBuf {
    repo::target().join("packages")
}

/// The revision is the packaging's own number; the upgrade test wants two packages that differ in nothing else.
fn build_deb(revision: u32) -> Result<PathBuf> {
    let deb = dir().join(format!(
        "vipd_{}-{revision}_{}.deb",
        repo::VERSION,
        debian_arch()
    ));
    let mut command = sh::command(DEB.ensure()?);
    command.args([
        "deb",
        "-p",
        "xtask",
        "--no-build",
        "--no-strip",
        "--compress-system",
        "--locked",
    ]);
    command.args(["--deb-revision", &revision.to_string()]);
    sh::run(command.arg("--output").arg(&deb))?;
    Ok(deb)
}

fn build_rpm() -> Result<PathBuf> {
    let rpm = dir().join(format!(
        "vipd-{}-1.{}.rpm",
        repo::VERSION,
        std::env::consts::ARCH
    ));
    let mut command = sh::command(RPM.ensure()?);
    command.args([
        "generate-rpm",
        "-p",
        "packaging/xtask",
        "--auto-req",
        "disabled",
        "--output",
    ]);
    sh::run(command.arg(&rpm))?;
    Ok(rpm)
}

fn debian_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
