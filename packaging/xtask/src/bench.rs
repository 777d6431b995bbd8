//! `cargo xtask bench`: installs what vipd is compared with, builds, and becomes `vipd-bench`; or measures the eBPF
//! programs alone, which is a test of the crate that loads them.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{apt, needs, repo, sh};

/// What a packet costs in the eBPF programs. The kernel takes the time, so any build profile will do.
const DATAPATH: &str = "test -p vipd-datapath --test balance_bench -- --ignored --exact what_a_packet_costs --nocapture";

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
    if arguments.first().is_some_and(|what| what == "datapath") {
        return sh::run(&mut sh::cargo(DATAPATH));
    }
    println!("==> bench: building (release; about ten minutes on two cores the first time)");
    let programs = "build --release --bins -p vipd -p vipctl -p vipd-integration";
    sh::run(&mut sh::cargo(programs))?;
    let bench = repo::program("release", "vipd-bench");
    Err(sh::command(&bench).args(arguments).exec())
        .with_context(|| format!("cannot start {}", bench.display()))
}
