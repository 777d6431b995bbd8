//! Logging: text for people, JSON for machines, the journal with its fields.

use anyhow::Context as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::LogFormat;

/// Begins to log to standard error or the journal; the environment variable `VIPD_LOG` overrides `level`.
///
/// # Errors
/// When the filter is no good, the journal cannot be reached, or logging has begun already.
pub fn begin(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("VIPD_LOG") {
        Ok(filter) => filter.parse::<EnvFilter>().context("VIPD_LOG")?,
        Err(_) => quiet(level).parse().context("log.level")?,
    };
    let to_stderr = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => registry()
            .with(filter)
            .with(to_stderr.with_ansi(false))
            .try_init()?,
        LogFormat::Json => registry().with(filter).with(to_stderr.json()).try_init()?,
        LogFormat::Journald => {
            let journal = tracing_journald::layer().context(
                "log.format = \"journald\", but the journal's socket cannot be reached; use text",
            )?;
            registry().with(filter).with(journal).try_init()?;
        }
    }
    Ok(())
}

/// A plain level is vipd's own; the Raft library's running commentary begins at `debug`.
fn quiet(level: &str) -> String {
    match level {
        "error" | "warn" | "info" => format!("{level},openraft=error"),
        other => other.to_owned(),
    }
}
