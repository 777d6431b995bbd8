//! `cargo xtask model`: explores the lease protocol exhaustively, and plants mutants in it.

use anyhow::Result;
use clap::Args;

use crate::sh;

/// The document that holds the tables.
const README: &str = "integration/model/README.md";

/// What to explore.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only this scene and its mutants.
    #[arg(long)]
    scene: Option<String>,
    /// Only this mutant, with the steps that show what it breaks.
    #[arg(long)]
    mutant: Option<String>,
    /// Explore more: for many minutes, and gigabytes of memory.
    #[arg(long, conflicts_with = "small")]
    large: bool,
    /// Explore less: what every test run does.
    #[arg(long)]
    small: bool,
    /// Write the tables into integration/model/README.md.
    #[arg(long)]
    write: bool,
}

/// Fails when the protocol does, or when a mutant is not caught.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("==> model: building (release)");
    let mut cargo = sh::cargo("run --quiet --release -p vipd-model --");
    if let Some(scene) = &options.scene {
        cargo.args(["--scene", scene]);
    }
    if let Some(mutant) = &options.mutant {
        cargo.args(["--mutant", mutant]);
    }
    if options.large {
        cargo.arg("--large");
    }
    if options.small {
        cargo.arg("--small");
    }
    if options.write {
        cargo.args(["--write", README]);
    }
    sh::run(&mut cargo)
}
