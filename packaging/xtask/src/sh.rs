//! Running other programs: what failed is always named, with its exit status and the end of what it said.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Lines of a quiet command's output that are shown when it fails.
const TAIL: usize = 30;

/// Without a terminal a long quiet command says that it is alive this often.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A command that runs in the repository root, without standard input.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(crate::repo::root())
        .stdin(Stdio::null());
    command
}

/// The cargo that runs us, so that the toolchain stays the same; `line` is split at white space.
///
/// Where nobody is there to commit a changed lock file, a stale one is an error. What `cargo run` says of *us* in the
/// environment is kept from it: build scripts look at that (ring's does), and would have everything above them built anew
/// after each `cargo build` that somebody types.
pub(crate) fn cargo(line: &str) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of_us| name.starts_with(of_us))
        {
            cargo.env_remove(&*name);
        }
    }
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    cargo.arg(verb);
    if matches!(verb, "build" | "test" | "clippy" | "doc") && std::env::var_os("CI").is_some() {
        cargo.arg("--locked");
    }
    cargo.args(words);
    cargo
}

/// Runs a command whose output the reader should see as it comes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output; on failure the error carries its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}\n{}", output.status, tail(said.lines()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a chatty command behind one live line of progress; its output appears only if it fails.
pub(crate) fn quiet(title: &str, command: &mut Command) -> Result<()> {
    let line = describe(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (sender, receiver) = mpsc::channel();
    let readers: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as _),
        child.stderr.take().map(|pipe| Box::new(pipe) as _),
    ];
    for pipe in readers.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe)
                .split(b'\n')
                .map_while(|line| line.ok())
            {
                if sender
                    .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }
    drop(sender);
    let said = follow(title, &receiver);
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        bail!(
            "`{line}` failed: {status}\n{}",
            tail(said.iter().map(String::as_str))
        );
    }
    Ok(())
}

/// Shows the newest line of a running command until it closes its output; returns everything it said.
fn follow(title: &str, lines: &mpsc::Receiver<String>) -> Vec<String> {
    let started = Instant::now();
    let bar = progress(title);
    let mut said: Vec<String> = Vec::new();
    let mut spoke = Instant::now();
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                if !line.is_empty() {
                    bar.set_message(line.clone());
                    said.push(line);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if bar.is_hidden() && spoke.elapsed() >= HEARTBEAT {
            spoke = Instant::now();
            let last = said.last().map_or("", String::as_str);
            println!(
                "    {title}: {:.0} s … {last}",
                started.elapsed().as_secs_f32()
            );
        }
    }
    bar.finish_and_clear();
    said
}

fn progress(title: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_prefix(title.to_owned());
    if let Ok(style) =
        ProgressStyle::with_template("    {spinner} {prefix} {elapsed} {wide_msg:.dim}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// The command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last lines of a text, indented.
pub(crate) fn tail<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.collect();
    let first = lines.len().saturating_sub(TAIL);
    lines[first..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Finds a program on `PATH` or in the administrator's folders, which an ordinary user's `PATH` lacks.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut dirs = std::env::split_paths(&path).chain(admin);
    dirs.find_map(|dir| Some(dir.join(program)).filter(|file| is_executable(file)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Fails with one line unless we are root; `why` says what needs it.
pub(crate) fn require_root(why: &str, again: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let me =
        std::fs::metadata("/proc/self").context("cannot read /proc/self to learn who we are")?;
    if me.uid() != 0 {
        bail!("{why} needs root; run it again as root: {again}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_status_and_its_last_words() {
        let error = quiet(
            "t",
            command("sh").args(["-c", "echo out; echo err >&2; exit 3"]),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("sh -c") && error.contains("exit status: 3"),
            "{error}"
        );
        assert!(error.contains("out") && error.contains("err"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut command("no-such-program-here"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot start `no-such-program-here`"),
            "{error}"
        );
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let shown = tail(lines.iter().map(String::as_str));
        assert_eq!(shown.lines().count(), TAIL);
        assert!(shown.ends_with("    99"));
    }

    #[test]
    fn which_finds_a_shell_and_not_a_fantasy() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-here").is_none());
    }
}
