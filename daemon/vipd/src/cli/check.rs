//! `vipd check`.

use std::path::Path;
use std::process::ExitCode;

use vipd::config::Config;

pub(super) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let checked = Config::load(config)?;
    println!(
        "{}: good (node {}, data in {})",
        config.display(),
        checked.name,
        checked.data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
