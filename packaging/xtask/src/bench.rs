//! `cargo xtask bench`: installs what vipd is compared with, builds, and becomes `vipd-bench`.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{apt, needs, repo, sh};

/// Does not return when the measurement starts: this process becomes `vipd-bench`, whose exit code is the answer.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let asks = |word: &str| ["help", "-h", "--help"].contains(&word);
    if !arguments.iter().any(|word| asks(word)) {
        sh::require_root(
            "the bench makes network namespaces and loads eBPF programs, which",
            "cargo xtask bench",
        )?;
        apt::ensure("the bench", needs::BENCH)?;
    }
    println!("==> bench: building (release; about ten minutes on two cores the first time)");
    let programs = "build --release --bins -p vipd -p vipctl -p vipd-integration";
    sh::run(&mut sh::cargo(programs))?;
    let bench = repo::program("release", "vipd-bench");
    Err(sh::command(&bench).args(arguments).exec())
        .with_context(|| format!("cannot start {}", bench.display()))
}
