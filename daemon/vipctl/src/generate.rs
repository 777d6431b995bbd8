//! Completions and man pages, from the one definition.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

/// Completions for a shell, on stdout.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vipctl", &mut text);
    output::line(String::from_utf8_lossy(&text).trim_end())
}

/// One man page per noun and verb, into `dir`.
pub(crate) fn man_pages(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|cause| {
            Failure::new(
                format!("cannot write man pages to {}: {cause}", dir.display()),
                "name a directory you may write to",
            )
        })
}
