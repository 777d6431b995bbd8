//! A process on a host, known by its pid and never by a name pattern.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running program; its output goes to a file in the lab's folder.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in the calling thread's namespace, appending its output to `log`.
    pub(super) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start `{}` as {name}",
                    command.get_program().display()
                )
            })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it is still there (stopped counts as there).
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it from running, as SIGSTOP, a hung disk or a starved machine would.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process run again.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to load its configuration anew (SIGHUP).
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Asks it to end (SIGTERM) and waits up to `bound`.
    pub fn terminate(&mut self, bound: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(bound)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        // Already ended is what was wanted; the wait reaps it either way.
        let _ = self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(5)).map(drop)
    }

    /// Waits up to `bound` for it to end by itself.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!(
                    "{} (pid {}) still runs after {bound:?}; its log ends with:\n{}",
                    self.name,
                    self.pid(),
                    self.tail(20)
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many bytes it has written.
    pub fn written(&self) -> Result<u64> {
        let log = std::fs::metadata(&self.log);
        Ok(log
            .with_context(|| format!("look at {}", self.log.display()))?
            .len())
    }

    /// Whether it has written `word` since it had written so many bytes.
    pub fn says_since(&self, written: u64, word: &str) -> Result<bool> {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(written))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let said = read().with_context(|| format!("read {}", self.log.display()))?;
        Ok(said.contains(word))
    }

    /// The last `lines` lines of its output.
    pub fn tail(&self, lines: usize) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let size = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(size.saturating_sub(64 * 1024)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            Ok(all[all.len().saturating_sub(lines)..].join("\n"))
        };
        read().unwrap_or_else(|e| format!("(cannot read {}: {e})", self.log.display()))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to {} (pid {})", self.name, self.pid()))
    }
}
