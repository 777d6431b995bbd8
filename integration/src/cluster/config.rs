//! The config file that `vipd init` and `vipd join` write, with what a lab must change in it: several
//! daemons share one file system here, and each needs its own socket and its own pins.

use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

/// Sets what the lab needs in the config at `path`.
pub(super) fn adapt(
    path: &Path,
    socket: &Path,
    api: &str,
    pins: &Path,
    interface: &str,
) -> Result<()> {
    let written = std::fs::read_to_string(path).with_context(|| {
        format!(
            "vipd said it is set up, but {} cannot be read",
            path.display()
        )
    })?;
    let mut config: Table = written
        .parse()
        .with_context(|| format!("{} is not TOML", path.display()))?;
    let listen = [format!("unix:{}", socket.display()), api.to_owned()];
    set(
        &mut config,
        "api",
        "listen",
        listen.map(Value::from).to_vec().into(),
    )?;
    set(
        &mut config,
        "datapath",
        "pin_dir",
        pins.display().to_string().into(),
    )?;
    set(
        &mut config,
        "announce",
        "interfaces",
        vec![Value::from(format!("^{interface}$"))].into(),
    )?;
    std::fs::write(path, config.to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Sets one key of one section of the config at `path`.
pub(super) fn put(path: &Path, section: &str, key: &str, value: Value) -> Result<()> {
    let mut config: Table = std::fs::read_to_string(path)?.parse()?;
    set(&mut config, section, key, value)?;
    std::fs::write(path, config.to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn set(config: &mut Table, section: &str, key: &str, value: Value) -> Result<()> {
    config
        .entry(section)
        .or_insert_with(|| Table::new().into())
        .as_table_mut()
        .with_context(|| format!("[{section}] is not a section"))?
        .insert(key.to_owned(), value);
    Ok(())
}
