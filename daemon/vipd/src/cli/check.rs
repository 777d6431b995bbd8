//! `vipd check`.

use std::path::Path;
use std::process::ExitCode;

use vipd::config::Config;

pub(super) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let checked = Config::load(config)?;
    // Where there is no node yet, or whoever checks may not look, there is nothing to hold it against.
    if let Ok(joined) = vipd_raft::joined_name(&checked.data_dir) {
        checked.is_named(&joined)?;
    }
    println!(
        "{}: good (node {}, data in {})",
        config.display(),
        checked.name,
        checked.data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
