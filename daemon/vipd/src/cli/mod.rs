//! `vipd`: one file a verb. None of them ever asks a question.

mod check;
mod clean;
mod demo;
mod init;
mod join;
mod place;
mod reload;
mod run;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Virtual IPs that never have two owners.
#[derive(Debug, Parser)]
#[command(name = "vipd", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon
    Run(run::Args),
    /// Make the first node of a cluster, and print the command that joins the next one
    Init(init::Args),
    /// Make this host a node of an existing cluster
    Join(join::Args),
    /// Make a token for `vipd join`; asks the daemon that runs here
    Token(token::Args),
    /// Check a configuration file
    Check {
        /// The file
        #[arg(long, default_value = vipd::config::DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Take everything of a stopped daemon out of the kernel: its addresses, programs and maps
    Clean(clean::Args),
    /// Show what vipd does: three hosts and a client on this machine, and the faults they meet
    Demo(demo::Args),
}

pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Run(args) => run::run(args),
        Verb::Init(args) => init::run(args),
        Verb::Join(args) => join::run(args),
        Verb::Token(args) => token::run(args),
        Verb::Check { config } => check::run(&config),
        Verb::Clean(args) => clean::run(args),
        Verb::Demo(args) => demo::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vipd: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each told once: many an error's own text ends with its cause.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error
        .chain()
        .map(|cause| cause.to_string().replace('\n', " "))
    {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// The runtime of the short verbs.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
