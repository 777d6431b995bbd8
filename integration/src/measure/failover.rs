//! Trials of all systems and faults, interleaved, so that whatever else the machine does meets them all alike.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::fault::Fault;
use super::report::{self, Conditions};
use super::stats::ms;
use super::system::{Contender, System};
use super::trial::{self, Trial};
use crate::bench::Turn;
use crate::cluster::Binaries;

/// Systems that say "I live" no more often than this are measured beside the others: their trials are waiting, which
/// costs no CPU, and would take most of the time.
const SLOW: Duration = Duration::from_secs(1);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// How often each fault is done to each system.
    pub trials: usize,
    /// Which faults; each system leaves out those it does not know. None means all; for many VIPs, those that differ
    /// with their number.
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
    let _turn = Turn::wait()?;
    let conditions = Conditions::now(&options.binaries);
    eprintln!("{conditions}");
    let done = Mutex::new(Vec::new());
    let mut failed = 0;
    for &vips in &options.vips {
        failed += run_with(vips, options, &done)?;
        let so_far = done.lock().unwrap_or_else(PoisonError::into_inner);
        // Written after each number of VIPs: hours of trials are not lost with the last one.
        report::write(&so_far, &conditions, &options.out)?;
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{}", report::write(&done, &conditions, &options.out)?);
    println!(
        "table, plot and raw trials are in {}",
        options.out.display()
    );
    if failed > 0 {
        bail!("{failed} trials could not be made; see above");
    }
    Ok(done)
}

/// All trials with so many VIPs; how many could not be made.
fn run_with(vips: usize, options: &Options, done: &Mutex<Vec<Trial>>) -> Result<usize> {
    let mut systems = Vec::new();
    for contender in options.systems.iter().filter(|c| c.holds(vips)) {
        eprintln!("setting up {contender} with {vips} VIPs");
        let started = contender.start(&options.binaries, &options.log_level, vips);
        systems.push(started.with_context(|| format!("cannot set up {contender}"))?);
    }
    let faults = match (&options.faults[..], vips) {
        ([], 1) => &Fault::ALL[..],
        ([], _) => &[Fault::PowerOff, Fault::LeaderAndHolder, Fault::Drain],
        (chosen, _) => chosen,
    };
    let (mut slow, mut quick): (Vec<_>, Vec<_>) = systems
        .into_iter()
        .partition(|system| system.period() >= SLOW);
    let failed = thread::scope(|scope| {
        let beside = scope.spawn(|| lane(&mut slow, options.trials, faults, done));
        let failed = lane(&mut quick, options.trials, faults, done);
        let beside = beside.join();
        beside
            .map(|others| failed + others)
            .map_err(|_| anyhow!("the lane of the slow systems panicked"))
    })?;
    if options.keep_logs {
        for system in slow.iter().chain(&quick) {
            report::keep_logs(&**system, &options.out)?;
        }
    }
    Ok(failed)
}

/// All trials of some systems, one after the other; how many could not be made.
fn lane(
    systems: &mut [Box<dyn System>],
    trials: usize,
    faults: &[Fault],
    done: &Mutex<Vec<Trial>>,
) -> usize {
    let known = |system: &dyn System| faults.iter().filter(|&&f| system.knows(f)).count();
    let each: usize = systems.iter().map(|system| known(&**system)).sum();
    let total = trials * each;
    let began = Instant::now();
    let (mut made, mut failed) = (0, 0);
    for _ in 0..trials {
        for &fault in faults {
            for system in systems.iter_mut().filter(|system| system.knows(fault)) {
                let outcome = trial::run(&mut **system, fault);
                made += 1;
                let where_we_are = progress(made, total, began);
                match outcome {
                    Ok(trial) => {
                        eprintln!("{where_we_are} {}", line(&trial));
                        done.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(trial);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("{where_we_are} {error:#}");
                    }
                }
            }
        }
    }
    failed
}

/// `[3/40, 2 min left]`
fn progress(made: usize, total: usize, began: Instant) -> String {
    let each = began.elapsed().as_secs_f64() / made as f64;
    let left = each * (total - made) as f64;
    if left < 100.0 {
        format!("[{made}/{total}, {left:.0} s left]")
    } else {
        format!("[{made}/{total}, {:.0} min left]", left / 60.0)
    }
}

fn line(trial: &Trial) -> String {
    let seen = &trial.seen;
    let of = if trial.vips == 1 {
        let end = seen.server.as_deref().unwrap_or("nobody");
        format!("{} -> {end}, {} datagrams lost", trial.holder, seen.lost)
    } else {
        let announced = seen.announced.map_or("-".to_owned(), ms);
        format!(
            "last of {} VIPs (median VIP {} ms, last announced {announced} ms), {} lost",
            trial.vips,
            ms(seen.median_vip),
            seen.lost
        )
    };
    let split = match seen.overlap {
        None | Some(Duration::ZERO) => String::new(),
        Some(overlap) => format!(", TWO OWNERS for {} ms", ms(overlap)),
    };
    let moved = match seen.false_moves {
        0 => String::new(),
        moves => format!(", {moves} false moves"),
    };
    let dark = if trial.dark { ", DARK" } else { "" };
    format!(
        "{:<17} {:<15} {:>7} ms, {of}{split}{moved}{dark}; at {}",
        trial.system,
        trial.fault,
        ms(seen.outage),
        trial.at,
    )
}
