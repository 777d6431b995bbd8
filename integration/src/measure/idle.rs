//! `bench idle`: what it costs when nothing happens.

use std::fmt::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::{self, Conditions};
use super::system::{Contender, SERVERS};
use super::usage::Since;
use crate::bench::Turn;
use crate::cluster::Binaries;

/// After the set-up, before the measurement: announcements and first elections are over.
const REST: Duration = Duration::from_secs(10);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// With how many VIPs, one after the other.
    pub vips: Vec<usize>,
    /// Which systems.
    pub systems: Vec<Contender>,
    /// How long each is measured.
    pub span: Duration,
    /// Where the table goes.
    pub out: PathBuf,
}

/// Measures one system after the other, alone on the machine, and writes a table.
pub fn run(options: &Options) -> Result<()> {
    let _turn = Turn::wait()?;
    let conditions = Conditions::now(&options.binaries);
    let mut text = format!(
        "{conditions}; {} s each\n{:>5}  {:<17}  {:<5}  {:>15}  {:>8}  {:>9}  threads\n",
        options.span.as_secs(),
        "VIPs",
        "system",
        "node",
        "CPU % of a core",
        "RSS MiB",
        "own MiB"
    );
    for &vips in &options.vips {
        for contender in options.systems.iter().filter(|c| c.holds(vips)) {
            eprintln!("{contender} with {vips} VIPs, {} s", options.span.as_secs());
            let system = contender
                .start(&options.binaries, "info", vips)
                .with_context(|| format!("cannot set up {contender}"))?;
            sleep(REST);
            let hosts = || SERVERS.map(|name| system.lab().host(name));
            let begun = hosts().map(Since::now);
            sleep(options.span);
            for (since, host) in begun.into_iter().zip(hosts()) {
                let usage = since?.usage(host)?;
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{vips:>5}  {:<17}  {:<5}  {:>15.2}  {:>8.1}  {:>9.1}  {}",
                    system.name(),
                    host.name(),
                    usage.cpu_percent,
                    usage.rss_mib,
                    usage.anonymous_mib,
                    busiest(&usage.threads)
                );
            }
        }
    }
    println!("{text}");
    report::save(&options.out, "idle.txt", &text)
}

/// The threads that cost most, as `name 0.21`.
fn busiest(threads: &[(String, f64)]) -> String {
    let shown = threads.iter().filter(|(_, cpu)| *cpu > 0.0).take(5);
    let words: Vec<String> = shown
        .map(|(name, cpu)| format!("{name} {cpu:.2}"))
        .collect();
    words.join(", ")
}
