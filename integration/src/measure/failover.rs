//! Trials of all systems and faults, interleaved, so that whatever else the machine does meets them all alike.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fault::Fault;
use super::report;
use super::stats::ms;
use super::system::{Contender, System};
use super::trial::{self, Trial};
use crate::bench::Turn;
use crate::cluster::Binaries;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// How often each fault is done to each system.
    pub trials: usize,
    /// Which faults; each system leaves out those it does not know.
    pub faults: Vec<Fault>,
    /// With how many VIPs, one after the other.
    pub vips: Vec<usize>,
    /// Which systems.
    pub systems: Vec<Contender>,
    /// Where the raw trials, the table and the plot go.
    pub out: PathBuf,
    /// The daemons' log level.
    pub log_level: String,
    /// Leave the daemons' logs in the output folder.
    pub keep_logs: bool,
}

/// Runs all trials and writes what came of them; fails when a trial could not be made.
pub fn run(options: &Options) -> Result<Vec<Trial>> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make the folder {}", options.out.display()))?;
    let _turn = Turn::wait()?;
    let mut done = Vec::new();
    let mut failed = 0;
    for &vips in &options.vips {
        failed += run_with(vips, options, &mut done)?;
    }
    println!("{}", report::table(&done));
    report::write(&done, &options.out)?;
    if failed > 0 {
        bail!("{failed} trials could not be made; see above");
    }
    Ok(done)
}

/// All trials with so many VIPs; how many could not be made.
fn run_with(vips: usize, options: &Options, done: &mut Vec<Trial>) -> Result<usize> {
    let mut systems = Vec::new();
    for contender in options.systems.iter().filter(|c| c.holds(vips)) {
        eprintln!("setting up {contender} with {vips} VIPs");
        let started = contender.start(&options.binaries, &options.log_level, vips);
        systems.push(started.with_context(|| format!("cannot set up {contender}"))?);
    }
    let mut failed = 0;
    let total: usize = options.trials
        * systems
            .iter()
            .map(|s| known(&**s, options).count())
            .sum::<usize>();
    let began = Instant::now();
    let mut made = 0;
    for round in 1..=options.trials {
        for &fault in &options.faults {
            for system in systems.iter_mut().filter(|system| system.knows(fault)) {
                made += 1;
                let left = remaining(began, made - 1, total);
                match trial::run(&mut **system, fault) {
                    Ok(trial) => {
                        eprintln!("{}", line(&trial, made, total, left));
                        done.push(trial);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("[{made}/{total}] round {round}: {error:#}");
                    }
                }
            }
        }
    }
    if options.keep_logs {
        for system in &systems {
            report::keep_logs(&**system, &options.out)?;
        }
    }
    Ok(failed)
}

fn known<'a>(system: &'a dyn System, options: &'a Options) -> impl Iterator<Item = Fault> + 'a {
    let faults = options.faults.iter().copied();
    faults.filter(|&fault| system.knows(fault))
}

fn remaining(began: Instant, made: usize, total: usize) -> Option<Duration> {
    let each = began.elapsed().checked_div(u32::try_from(made).ok()?)?;
    Some(each * u32::try_from(total - made).ok()?)
}

fn line(trial: &Trial, made: usize, total: usize, left: Option<Duration>) -> String {
    let left = left.map_or(String::new(), |left| {
        format!(", about {} s left", left.as_secs())
    });
    let end = trial.seen.server.as_deref().unwrap_or("nobody");
    let split = match trial.seen.overlap {
        Duration::ZERO => String::new(),
        overlap => format!(", TWO OWNERS for {} ms", ms(overlap)),
    };
    let dark = if trial.dark { ", DARK" } else { "" };
    format!(
        "[{made}/{total}{left}] {:<17} {:<15} {:>7} ms, {} lost, {} -> {end}, {} takeovers{split}{dark} at {}",
        trial.system,
        trial.fault,
        ms(trial.seen.outage),
        trial.seen.lost,
        trial.holder,
        trial.seen.takeovers,
        trial.at,
    )
}
