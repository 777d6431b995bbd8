//! Reading `vipd.toml`: every fault is told as `FILE:LINE: what is wrong, what would be right`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Checked, Config};

/// Why a configuration is no good. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("{}: no such file; make one with vipd init or vipd join, or name another with --config", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The text is no TOML, a key is unknown, or a value has the wrong type.
    #[error("{}:{line}: {what}", path.display())]
    Fault {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Checked, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => ConfigError::Missing(path.into()),
            _ => ConfigError::Unreadable {
                path: path.into(),
                error,
            },
        })?;
        Self::parse(path, &text)
    }

    /// Parses and checks `text`, which stands in `path`.
    ///
    /// # Errors
    /// [`ConfigError::Fault`].
    pub fn parse(path: &Path, text: &str) -> Result<Checked, ConfigError> {
        let fault = |line, what: String| ConfigError::Fault {
            path: path.into(),
            line,
            what,
        };
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            fault(line, super::one_line(error.message()))
        })?;
        config
            .check()
            .map_err(|(key, what)| fault(line_of_key(text, key), format!("{key}: {what}")))
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// The line where `section.key` is set, or 1 when it is a default that does not serve here.
fn line_of_key(text: &str, key: &str) -> usize {
    let (section, key) = key.split_once('.').unwrap_or(("", key));
    let header = format!("[{section}]");
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == header;
        } else if inside
            && line
                .split('=')
                .next()
                .is_some_and(|left| left.trim() == key)
        {
            return i + 1;
        }
    }
    1
}
