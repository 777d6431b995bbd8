//! `vipd demo`: the show, on this machine.

use std::process::ExitCode;

use anyhow::Context as _;
use vipd_integration::demo::{self, Options};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave the lab running at the end, and say how to explore it
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let vipd = std::env::current_exe().context("the path of this program")?;
    let vipctl = vipd.with_file_name("vipctl");
    if !vipctl.exists() {
        anyhow::bail!(
            "there is no vipctl beside {}; build it: cargo build --release -p vipctl",
            vipd.display()
        );
    }
    let held = demo::run(Options {
        vipd,
        vipctl,
        keep: args.keep,
    })?;
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
