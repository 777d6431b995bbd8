//! `vipctl`: the command line of vipd.
//!
//! One file per noun. The definition in [`cli`] yields the parser, the help, the completions and the man
//! pages. Nothing is decided here: the daemon judges, this asks and shows.
//!
//! Exit codes: 0 done, 1 refused or failed (one line on stderr, then the next step), 2 usage. `diff` has those of diff(1):
//! 0 no difference, 1 a difference, 2 it can't be told.

mod apply;
mod backup;
mod cli;
mod cluster;
mod connect;
mod dark;
mod diff;
mod edit;
mod events;
mod failure;
mod files;
mod flow;
mod generate;
mod kind;
mod lb;
mod manifest;
mod map;
mod near;
mod node;
mod output;
mod plan;
mod policy;
mod pool;
mod render;
mod service;
mod status;
mod token;
mod until;
mod validate;
mod vip;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Global, Noun};
use crate::failure::Failure;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Cli { global, noun } = Cli::parse();
    match run(noun, &global).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => near::hint(failure, &global).await.report(),
    }
}

async fn run(noun: Noun, global: &Global) -> Result<(), Failure> {
    output::widen(global.output);
    match noun {
        Noun::Pool(verb) => pool::run(verb, global).await,
        Noun::Policy(verb) => policy::run(verb, global).await,
        Noun::Vip(verb) => vip::run(verb, global).await,
        Noun::Node(verb) => node::run(verb, global).await,
        Noun::Cluster(verb) => cluster::run(verb, global).await,
        Noun::Lb(verb) => lb::run(verb, global).await,
        Noun::Flow(verb) => flow::run(verb, global).await,
        Noun::Map(verb) => map::run(verb, global).await,
        Noun::Plan(args) => plan::run(&args, global).await,
        Noun::Status(args) => status::run(&args, global).await,
        Noun::Events(args) => events::run(&args, global).await,
        Noun::Token(verb) => token::run(verb, global).await,
        Noun::Apply(args) => apply::run(&args, None, global).await,
        Noun::Diff(args) => diff::run(&args, global).await,
        Noun::Validate(args) => validate::run(&args, global).await,
        Noun::Wait(args) => until::run(&args, global).await,
        Noun::Completions { shell } => generate::completions(shell),
        Noun::Man { dir } => generate::man_pages(&dir),
    }
}
