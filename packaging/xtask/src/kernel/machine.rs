//! The emulated machine: from power-on to power-off, for a bounded time.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Report;
use crate::sh;

const QEMU: &str = "qemu-system-x86_64";

/// Longest life of the machine.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Memory in MiB: the archive twice while it boots, then tables of flows of two tests at a time.
const MEMORY: &str = "2048";

/// Nothing but a console: no network, no disk, no screen. Emulated, since KVM is not everywhere, and hangs where it is nested.
/// A panic is a reboot, and that is the end.
const MACHINE: &[&str] = &[
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max,-cx16",
    "-smp",
    "2",
    "-m",
    MEMORY,
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-serial",
    "stdio",
    "-no-reboot",
];

/// Only what is alarming goes to the console beside the tests. Measures against spying on other programs only cost time here,
/// and so do instructions that copy strings, which the emulator takes byte by byte: a fifth of all.
const KERNEL: &str = "console=ttyS0 loglevel=2 panic=-1 mitigations=off random.trust_cpu=on clearcpuid=erms,fsrm,rep_good";

/// Boots, and returns what the machine has said when it is off; that goes to the file `console` as well.
pub(super) fn boot(vmlinuz: &Path, image: &Path, console: &Path) -> Result<Report> {
    let mut qemu = sh::command(QEMU);
    qemu.args(MACHINE).arg("-kernel").arg(vmlinuz);
    qemu.arg("-initrd").arg(image).args(["-append", KERNEL]);
    let mut log =
        File::create(console).with_context(|| format!("cannot write {}", console.display()))?;
    let mut report = Report::default();
    let (mut machine, lines) = Machine::start(&mut qemu)?;
    let started = Instant::now();
    loop {
        match lines.recv_timeout(LIMIT.saturating_sub(started.elapsed())) {
            Ok(line) => {
                writeln!(log, "{line}").context("cannot write the console's file")?;
                if let Some(news) = report.read(&line, started.elapsed()) {
                    println!("    {news}");
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let limit = LIMIT.as_secs();
                report.trouble(format!(
                    "it was not done after {limit} s and was turned off"
                ));
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    machine.end();
    report.off(started.elapsed());
    Ok(report)
}

/// A running emulator; ended at the latest when this is dropped.
struct Machine(Child);

impl Machine {
    /// Starts it, and hands out what it says, line by line.
    fn start(qemu: &mut Command) -> Result<(Self, Receiver<String>)> {
        let (reader, writer) = std::io::pipe().context("cannot make a pipe for the console")?;
        let second = writer
            .try_clone()
            .context("cannot clone a pipe for the console")?;
        let line = sh::describe(qemu);
        let child = qemu
            .stdout(writer)
            .stderr(second)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        // `Command` keeps its ends of the pipe open; without this the reader below would never see the end.
        qemu.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok((Self(child), receiver))
    }

    /// Turns it off, if it has not done so itself.
    fn end(&mut self) {
        // An error is that it has ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}
