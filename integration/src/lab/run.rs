//! Short-lived commands: run, check, and say what failed.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and returns its output, whatever its exit code.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| {
        format!(
            "cannot start `{}`: is it installed and on PATH?",
            command.get_program().display()
        )
    })
}

/// Runs `program` with `args`; an exit code other than 0 is an error that carries its stderr.
pub(crate) fn check(program: &str, args: &[&str]) -> Result<()> {
    let done = output(Command::new(program).args(args))?;
    if !done.status.success() {
        bail!(
            "`{program} {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(())
}

/// Feeds `script` to the standard input of `program args`; stops at the first line that fails.
pub(crate) fn feed(program: &str, args: &[&str], script: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{program}`: is it installed and on PATH?"))?;
    child
        .stdin
        .take()
        .context("no pipe to the child")?
        .write_all(script.as_bytes())
        .with_context(|| format!("cannot feed `{program}`"))?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!(
            "`{program} {}` failed: {}; it was given:\n{script}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(())
}

/// Runs a batch of `ip` commands, one a line, inside the namespace `ns`.
pub(crate) fn ip(ns: &str, batch: &str) -> Result<()> {
    feed("ip", &["-n", ns, "-batch", "-"], batch)
}
