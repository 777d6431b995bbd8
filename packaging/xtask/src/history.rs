//! `cargo xtask history`: clients write and read through a cluster whose nodes fail, and what they saw is judged.

use anyhow::Result;
use clap::Args;

use crate::{apt, needs, sh};

/// For how long, and which run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Go on for so long; at least one round of each fault is made.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// The seed that a failing run printed.
    #[arg(long)]
    seed: Option<u64>,
}

/// Fails when no order of things explains what the clients saw.
pub(crate) fn run(options: &Options) -> Result<()> {
    let why = "the lab makes network namespaces and loads eBPF programs, which";
    sh::require_root(why, "cargo xtask history")?;
    apt::ensure("the lab", needs::TEST)?;
    sh::run(&mut sh::cargo("build -p vipd -p vipctl"))?;
    let mut test = sh::cargo("test -p vipd-integration --test history -- --nocapture");
    test.env("VIPD_HISTORY_MINUTES", options.minutes.to_string());
    if let Some(seed) = options.seed {
        test.env("VIPD_HISTORY_SEED", seed.to_string());
    }
    sh::run(&mut test)
}
