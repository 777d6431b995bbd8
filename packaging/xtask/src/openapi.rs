//! `cargo xtask openapi`: the API's description, and whether a running server does what it says.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{apt, needs, repo, sh};

/// The pinned packages of the tester.
const PINS: &str = "api/schemathesis.txt";
/// How it asks, and what it may be answered.
const CONFIG: &str = "api/schemathesis.toml";
/// The longest that it may take, in seconds; it takes a tenth of that on an idle machine.
const WITHIN: &str = "300";

/// What to do with the description.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Let schemathesis ask a running server whatever the description allows, and much that it doesn't; fails when an answer is
    /// not as described. Without this, api/openapi.json is written anew.
    #[arg(long)]
    test: bool,
}

/// Writes the description, or tests the server against it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.test {
        return test();
    }
    let mut refresh = sh::cargo("test --quiet -p vipd-api --test openapi current");
    sh::run(refresh.env("VIPD_REFRESH_OPENAPI", "1"))
}

/// Fails when schemathesis finds an answer that is not as described.
pub(crate) fn test() -> Result<()> {
    let tester = tester()?;
    sh::run(&mut sh::cargo(
        "build --quiet -p vipd-api --example serve --features memory",
    ))?;
    let ca = repo::tools().join("openapi-ca.pem");
    let mut serve = sh::command(repo::target().join("debug/examples/serve"));
    serve.arg(&ca).stdin(Stdio::piped()).stdout(Stdio::piped());
    let line = sh::describe(&serve);
    let mut server = Server(
        serve
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?,
    );
    let (url, token) = server
        .where_it_is()
        .with_context(|| format!("`{line}` does not say where it listens"))?;
    // Bounded from outside: one request that is never answered would else hold up everything.
    let mut ask = sh::command("timeout");
    ask.arg(WITHIN).arg(tester).args(["--config-file", CONFIG]);
    ask.arg("run").arg(format!("{url}/v1/openapi.json"));
    ask.arg("--tls-verify").arg(ca);
    ask.args(["--header", &format!("Authorization: Bearer {token}")]);
    sh::run(&mut ask)
}

/// The server under test; ends when its input does, at the latest when this is dropped.
struct Server(Child);

impl Server {
    /// The address and the token that it prints.
    fn where_it_is(&mut self) -> Result<(String, String)> {
        let said = self.0.stdout.take().context("it has no output")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some((url, token)) => Ok((url.to_owned(), token.to_owned())),
            None => bail!("it said {line:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

/// The tester's path; installs it from PyPI first if these pins are not there yet.
fn tester() -> Result<PathBuf> {
    let home = repo::tools().join("schemathesis");
    let (program, stamp) = (home.join("bin/schemathesis"), home.join("pins"));
    let pins = std::fs::read_to_string(repo::root().join(PINS))
        .with_context(|| format!("cannot read {PINS}"))?;
    if program.exists() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == pins) {
        return Ok(program);
    }
    apt::ensure("schemathesis", needs::OPENAPI)?;
    let mut venv = sh::command("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&home);
    sh::quiet("making a Python environment", &mut venv)?;
    let mut pip = sh::command(home.join("bin/pip"));
    pip.args(["install", "--disable-pip-version-check", "-r", PINS]);
    sh::quiet("installing schemathesis from PyPI (once)", &mut pip)?;
    std::fs::write(&stamp, pins)?;
    Ok(program)
}
