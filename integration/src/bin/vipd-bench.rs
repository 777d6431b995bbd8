//! The command line of `cargo xtask bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use vipd_integration::cluster::Binaries;
use vipd_integration::measure::{self, Contender, Fault};

/// Measure vipd, and others beside it, on this machine. Needs root, keepalived and ucarp.
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// How long a client is without an answer when the holder of its VIP is lost.
    Failover(Failover),
}

#[derive(Args, Debug)]
struct Failover {
    /// How often each fault is done to each system.
    #[arg(long, default_value_t = 30)]
    trials: usize,
    /// Three trials: a test of the bench itself.
    #[arg(long, conflicts_with = "trials")]
    quick: bool,
    /// Only these faults. Default: all.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// With how many VIPs; 1 has both families, of many every second one is IPv6.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    vips: Vec<usize>,
    /// These systems: vipd-lan, vipd-fast, vipd-safe, keepalived-SECONDS, ucarp.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "vipd-lan,vipd-fast,keepalived-0.1,keepalived-1,ucarp"
    )]
    systems: Vec<Contender>,
    /// Where the raw trials (JSON), the table and the plot go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Log level of vipd; anything below "info" costs time.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Leave the daemons' logs in the output folder.
    #[arg(long)]
    keep_logs: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let binaries = Binaries::built()?;
    match task {
        Task::Failover(wanted) => measure::failover(&measure::Failover {
            binaries,
            trials: if wanted.quick { 3 } else { wanted.trials },
            faults: if wanted.faults.is_empty() {
                Fault::ALL.to_vec()
            } else {
                wanted.faults
            },
            vips: wanted.vips,
            systems: wanted.systems,
            out: wanted.out,
            log_level: wanted.log_level,
            keep_logs: wanted.keep_logs,
        })
        .map(drop),
    }
}
