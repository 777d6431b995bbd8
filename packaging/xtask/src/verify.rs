//! `cargo xtask verify`: everything that can be judged without running vipd. Changes no file of the tree.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::stage::Stages;
use crate::tools::DENY;
use crate::{ebpf, repo, sh, shape};

/// The checks of `verify`, each of which can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// Formatting of every crate, the eBPF programs included.
    Fmt,
    /// File lengths, machine paths, leftovers.
    Shape,
    /// Clippy on all targets, warnings are errors.
    Clippy,
    /// Documentation builds without a warning.
    Doc,
    /// Licences, bans and sources of all dependencies.
    Deny,
    /// The checked-in eBPF object is what its source builds.
    Ebpf,
}

/// Runs the chosen checks, or all; every one runs even after a failure, and the summary names the failed ones.
pub(crate) fn run(chosen: &[Check]) -> Result<()> {
    let mut stages = Stages::new("verify");
    for check in Check::value_variants() {
        if chosen.is_empty() || chosen.contains(check) {
            let name = check
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned());
            stages.run(&name, || one(*check));
        }
    }
    stages.finish()
}

fn one(check: Check) -> Result<()> {
    match check {
        Check::Fmt => fmt(),
        Check::Shape => shape::check(&repo::root()),
        Check::Clippy => sh::run(&mut sh::cargo(
            "clippy --workspace --all-targets -- -D warnings",
        )),
        Check::Doc => {
            let mut doc = sh::cargo("doc --workspace --no-deps");
            sh::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        }
        Check::Deny => deny(),
        Check::Ebpf => ebpf::check(),
    }
}

fn fmt() -> Result<()> {
    let mut failed = Vec::new();
    for manifest in MANIFESTS {
        let mut fmt = sh::cargo("fmt --all --check --manifest-path");
        if sh::run(fmt.arg(manifest)).is_err() {
            failed.push(*manifest);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!(
            "not formatted: {}; `cargo xtask fix` does it",
            failed.join(", ")
        )
    }
}

/// The two cargo worlds: the workspace, and the eBPF programs with their own lock file.
pub(crate) const MANIFESTS: &[&str] = &["Cargo.toml", "datapath/ebpf/Cargo.toml"];

fn deny() -> Result<()> {
    let deny = DENY.ensure()?;
    let config = repo::root().join("deny.toml");
    for manifest in MANIFESTS {
        let mut check = sh::command(&deny);
        check
            .args(["--manifest-path", manifest, "--config"])
            .arg(&config);
        check.args(["--locked", "check", "--hide-inclusion-graph"]);
        sh::run(check.args(["licenses", "bans", "sources"]))
            .with_context(|| format!("a dependency of {manifest} breaks a rule of deny.toml"))?;
    }
    Ok(())
}
