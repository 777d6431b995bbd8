//! `bench balance`: what it costs that somebody stands between client and server; vipd in mode `nat` beside plain routing,
//! nftables, and proxies for TCP.

mod arrivals;
mod figures;
mod forwarder;
mod frames;
mod packets;
mod requests;
mod site;
mod way;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

pub use frames::{Frames, send as send_frames};

use super::report::{self, Conditions};
use crate::bench::Turn;
use crate::cluster::Binaries;
use way::Arms;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// The program that makes frames; none: packets are not measured.
    pub generator: Option<PathBuf>,
    /// UDP exchanges that the packets belong to: 1 to 50,000.
    pub flows: u16,
    /// Whether HTTP requests are measured.
    pub requests: bool,
    /// How often each is measured; all take turns.
    pub trials: usize,
    /// How long a trial is: whole seconds.
    pub span: Duration,
    /// Where the table goes.
    pub out: PathBuf,
}

/// Measures all ways in turn, and writes a table.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.trials > 0, "--trials is at least 1");
    ensure!(
        options.span >= Duration::from_secs(1),
        "--seconds is at least 1"
    );
    let _turn = Turn::wait()?;
    let mut text = format!("{}\n", conditions(options));
    if let Some(generator) = &options.generator {
        for arms in [Arms::Two, Arms::One] {
            text += &packets::run(options, generator, arms)?;
        }
    }
    if options.requests {
        text += &requests::run(options)?;
    }
    println!("{text}");
    report::save(&options.out, "balance.txt", &text)
}

fn conditions(options: &Options) -> Conditions {
    let ask = |program: &str, version: &str| {
        let mut asked = Command::new(program);
        asked.arg(version);
        asked
    };
    Conditions::of([
        ask(&options.binaries.vipd.to_string_lossy(), "--version"),
        ask("nft", "--version"),
        ask("haproxy", "-v"),
        ask("nginx", "-v"),
        ask("wrk", "-v"),
    ])
}
