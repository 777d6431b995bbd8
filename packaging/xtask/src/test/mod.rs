//! `cargo xtask test`: every test of the workspace, on real kernels, with one summary at the end.

mod tally;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::stage::Stages;
use crate::{apt, ebpf, kernel, needs, openapi, sh};
pub(crate) use tally::Tally;

/// Crates whose tests load eBPF programs or make network namespaces.
const NEED_ROOT: &[&str] = &["vipd", "vipd-datapath", "vipd-integration"];

/// The lab measures milliseconds, so its tests run one at a time and after all others.
pub(crate) const LAB: &str = "vipd-integration";

/// What to test.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Only these crates (may be repeated); tests of pure crates need no root.
    #[arg(short, long = "package", value_name = "CRATE")]
    packages: Vec<String>,
    /// Build the eBPF object anew and test that one, not the checked-in one (CI does).
    #[arg(long)]
    fresh_ebpf: bool,
}

/// Runs the tests; fails if one fails, if a test program dies, or if none matched.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wants = |name: &str| {
        options.packages.is_empty() || options.packages.iter().any(|package| package == name)
    };
    if NEED_ROOT.iter().any(|name| wants(name)) {
        let why = "testing eBPF programs and network namespaces";
        sh::require_root(
            why,
            "cargo xtask test (pure crates need none: cargo xtask test -p vipd-core)",
        )?;
        apt::ensure("the tests", needs::TEST)?;
    }
    let mut stages = Stages::new("test");
    let mut tally = Tally::default();
    let object = options
        .fresh_ebpf
        .then(|| stages.run("build a fresh eBPF object", ebpf::build_fresh))
        .flatten();
    if options.fresh_ebpf && object.is_none() {
        return stages.finish();
    }
    // One build for programs and tests together: the same features, so nothing is compiled twice.
    let built = stages.run("build", || {
        sh::run(cargo("build", options, None).args(["--bins", "--tests"]))
    });
    if built.is_none() {
        return stages.finish();
    }
    let others =
        options.packages.is_empty() || options.packages.iter().any(|package| package != LAB);
    if others {
        stages.run("all crates but the lab", || {
            let mut command = cargo("test", options, object.as_deref());
            if options.packages.is_empty() {
                command.args(["--exclude", LAB]);
            }
            command.args(["--no-fail-fast", "--"]).args(&options.filter);
            watch(&mut command, &mut tally)
        });
    }
    if wants(LAB) {
        stages.run("the lab, one test at a time", || {
            let mut command = cargo_in("test", &[LAB.to_owned()], object.as_deref());
            command
                .args(["--no-fail-fast", "--", "--test-threads=1"])
                .args(&options.filter);
            watch(&mut command, &mut tally)
        });
    }
    if options.packages.is_empty() && options.filter.is_none() {
        stages.run("the API against its description", openapi::test);
        stages.run(&kernel::title(), || kernel::test(object.as_deref()));
    }
    let outcome = stages.finish();
    print!("{tally}");
    if outcome.is_ok() && tally.executed() == 0 {
        bail!(
            "no test ran; is the filter {:?} a part of a test's name?",
            options.filter.as_deref().unwrap_or("")
        );
    }
    outcome
}

/// A cargo command over the chosen crates; the lab is left to its own run.
fn cargo(verb: &str, options: &Options, object: Option<&Path>) -> Command {
    let packages = options
        .packages
        .iter()
        .filter(|package| verb == "build" || *package != LAB);
    cargo_in(verb, &packages.cloned().collect::<Vec<_>>(), object)
}

fn cargo_in(verb: &str, packages: &[String], object: Option<&Path>) -> Command {
    let mut cargo = sh::cargo(verb);
    if packages.is_empty() {
        cargo.arg("--workspace");
    }
    for package in packages {
        cargo.args(["-p", package]);
    }
    if let Some(object) = object {
        cargo.env("VIPD_EBPF_OBJECT", object);
    }
    cargo
}

/// Runs a test command, passes its output through as it comes, and counts.
fn watch(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let line = sh::describe(command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe for the tests' output")?;
    let second = writer
        .try_clone()
        .context("cannot clone a pipe for the tests' output")?;
    let mut child = command
        .stdout(writer)
        .stderr(second)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // `Command` keeps its ends of the pipe open; without this the reader below would never see the end.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut out = std::io::stdout().lock();
    for bytes in BufReader::new(reader).split(b'\n') {
        let bytes = bytes.context("cannot read the tests' output")?;
        let text = String::from_utf8_lossy(&bytes);
        writeln!(out, "{text}").context("cannot write to standard output")?;
        tally.read(&text);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}
