//! `cargo xtask ebpf`: builds the eBPF object of `datapath/ebpf`, which is checked in beside its source so that nobody
//! who merely builds vipd needs the toolchain.
//!
//! The same sources and tools give the same bytes, whatever the folder, the user or the day. The tools that made the
//! object are recorded beside it: the check compares bytes where they are the installed ones, and says so where not.

mod symbols;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{repo, sh};
use toolchain::Toolchain;

/// Options of `cargo xtask ebpf`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {}

/// Builds the object and puts it, with the record of its tools, where both are checked in.
pub(crate) fn run(_options: &Options) -> Result<()> {
    let tools = Toolchain::ensure()?;
    let fresh = build(&tools)?;
    let (object, record) = (checked_in_object(), checked_in("vipd.bpf.tools"));
    let same = fs::read(&object).is_ok_and(|old| fs::read(&fresh).is_ok_and(|new| new == old));
    fs::copy(&fresh, &object).with_context(|| format!("cannot write {}", object.display()))?;
    fs::write(&record, tools.record())
        .with_context(|| format!("cannot write {}", record.display()))?;
    let news = if same { "unchanged" } else { "new: commit it" };
    println!("{} is {news}", object.display());
    Ok(())
}

/// Builds the object anew and returns its path, without touching the one that is checked in.
pub(crate) fn build_fresh() -> Result<PathBuf> {
    build(&Toolchain::ensure()?)
}

/// The object that is checked in.
pub(crate) fn checked_in_object() -> PathBuf {
    checked_in("vipd.bpf.o")
}

/// Holds the checked-in object against a fresh build.
///
/// Different bytes from the recorded tools are an error. With other tools nothing can be compared, and that is said
/// aloud; the tests run on the fresh object either way.
pub(crate) fn check() -> Result<()> {
    let tools = Toolchain::ensure()?;
    let fresh = build(&tools)?;
    let recorded = fs::read_to_string(checked_in("vipd.bpf.tools")).unwrap_or_default();
    if recorded != tools.record() {
        println!(
            "WARNING: the checked-in eBPF object was built by other tools, so its bytes are NOT checked.\n--- recorded\n{recorded}--- installed\n{}`cargo xtask ebpf` rebuilds and records it.",
            tools.record()
        );
        return Ok(());
    }
    let object = checked_in_object();
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    if read(&object)? != read(&fresh)? {
        bail!(
            "{} is not what its source builds: `cargo xtask ebpf`, then commit it",
            object.display()
        );
    }
    println!("    the checked-in eBPF object is what its source builds");
    Ok(())
}

fn source() -> PathBuf {
    repo::root().join("datapath/ebpf")
}

fn checked_in(name: &str) -> PathBuf {
    source().join(name)
}

/// Compiles, links and strips; returns the object under the build directory.
fn build(tools: &Toolchain) -> Result<PathBuf> {
    let target = repo::target().join("ebpf");
    // First, so that the folders of the sources exist when their names are mapped away.
    sh::quiet(
        "fetching the sources of the eBPF programs",
        cargo(tools, &target).args(["fetch", "--locked"]),
    )?;
    sh::quiet(
        "building the eBPF programs",
        cargo(tools, &target)
            .args([
                "build",
                "--release",
                "--locked",
                "--target",
                toolchain::TARGET,
            ])
            .args(["-Z", "build-std=core"])
            .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f")),
    )?;
    let linked = target.join(toolchain::TARGET).join("release/vipd-ebpf");
    let object = target.join("vipd.bpf.o");
    // Debug information goes; the types of maps and functions (BTF) stay.
    sh::run(
        sh::command(toolchain::STRIP)
            .args(["-g", "-o"])
            .args([&object, &linked]),
    )?;
    symbols::normalise(&object)?;
    Ok(object)
}

/// Debian's cargo, shielded from the rustup toolchain that runs this task.
fn cargo(tools: &Toolchain, target: &Path) -> Command {
    let mut cargo = sh::command(toolchain::CARGO);
    let ours = |name: &str| {
        name.starts_with("CARGO") && name != "CARGO_HOME" && !name.starts_with("CARGO_NET")
            || name.starts_with("RUST")
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(ours) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(source())
        .env("PATH", tools.path())
        .env("RUSTC", toolchain::RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_DIR", target);
    cargo
}

/// Flags for speed (without the CPU and the memcpy one the code is 1.4 times slower than C), for BTF, and for bytes
/// that do not depend on where they are built.
fn flags() -> Result<Vec<String>> {
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        format!("--remap-path-prefix={}=/src", repo::root().display()),
    ];
    // One folder for each registry or mirror, under a name of its own.
    let registry = cargo_home()?.join("registry/src");
    for entry in fs::read_dir(&registry).into_iter().flatten() {
        let path = entry?.path();
        flags.push(format!("--remap-path-prefix={}=/deps", path.display()));
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}
