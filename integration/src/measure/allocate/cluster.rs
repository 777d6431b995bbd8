//! Allocation by a cluster, beside etcd: three members each, durable as they are shipped, 64 clients.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contender::{Contender, make_pool, start_etcd};
use super::load::{self, CLIENTS, Trial};
use super::synced;
use crate::bench::Turn;
use crate::cluster::{Binaries, Cluster};
use crate::lab::Lab;
use crate::measure::report::{self, Conditions};
use crate::measure::stats::{Sample, ms};
use crate::measure::system::SERVERS;

/// Numbers of VIPs, for each contender its own.
static NEXT: [AtomicU32; 2] = [AtomicU32::new(1), AtomicU32::new(1)];
/// Before the first trial: elections are over and connections are made.
const WARM_UP: Duration = Duration::from_secs(2);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs of vipd.
    pub binaries: Binaries,
    /// How often each is measured; the two take turns.
    pub trials: usize,
    /// How long a trial is.
    pub span: Duration,
    /// Where the table goes.
    pub out: PathBuf,
}

/// Sets both up on the same three hosts, measures them in turn, and writes a table. The one whose turn it is not has
/// nothing to do meanwhile.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.trials > 0, "--trials is at least 1");
    let _turn = Turn::wait()?;
    let conditions = Conditions::now(&options.binaries);
    eprintln!("setting up three voters of vipd and three members of etcd");
    let lab = Lab::new(&SERVERS)?;
    let cluster = Cluster::start(lab, options.binaries.clone(), SERVERS.len())?;
    make_pool(&cluster)?;
    start_etcd(&cluster)?;
    let turns = || Contender::BOTH.into_iter().zip(&NEXT);
    for (contender, next) in turns() {
        load::run(contender, &cluster, next, WARM_UP)?;
    }
    let mut trials: [Vec<Trial>; 2] = Default::default();
    for number in 1..=options.trials {
        for ((contender, next), trials) in turns().zip(&mut trials) {
            let trial = load::run(contender, &cluster, next, options.span)?;
            eprintln!("{}, trial {number}: {:.0}/s", contender.name(), trial.rate);
            trials.push(trial);
        }
    }
    let mut text = format!(
        "{conditions}\n{CLIENTS} clients, HTTP/1.1 with JSON over connections that are kept (vipd: unix socket; etcd: its gateway, TCP),\n\
         {} trials of {} s each, in turn; rates: median (least to most); times: over all trials\n\n\
         {:<6} {:>30} {:>12} {:>12} {:>12}\n",
        options.trials,
        options.span.as_secs(),
        "",
        "allocations/s",
        "p50 ms",
        "p99 ms",
        "max ms"
    );
    let [vipd, etcd] = trials.each_ref().map(|trials| figures(trials));
    let (vipd, etcd) = (vipd?, etcd?);
    for (contender, of) in Contender::BOTH.into_iter().zip([&vipd, &etcd]) {
        let rates = format!("{:.0} ({:.0} to {:.0})", of.rate, of.slowest, of.fastest);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<6} {rates:>30} {:>12} {:>12} {:>12}",
            contender.name(),
            ms(of.times.median()),
            ms(of.times.p99()),
            ms(of.times.max())
        );
    }
    let times =
        |of: fn(&Sample) -> Duration| of(&vipd.times).as_secs_f64() / of(&etcd.times).as_secs_f64();
    let _ = writeln!(
        text,
        "vipd / etcd: allocations/s {:.2}, p50 {:.2}, p99 {:.2}\n",
        vipd.rate / etcd.rate,
        times(Sample::median),
        times(Sample::p99)
    );
    for (contender, next) in turns() {
        let seen = synced::look(contender, &cluster, next)?;
        let _ = writeln!(
            text,
            "{}: fdatasync and fsync of the three, under strace: {:?}, for {} allocations",
            contender.name(),
            seen.syncs,
            seen.allocations
        );
    }
    println!("{text}");
    report::save(&options.out, "allocate-cluster.txt", &text)
}

struct Figures {
    rate: f64,
    slowest: f64,
    fastest: f64,
    times: Sample,
}

fn figures(trials: &[Trial]) -> Result<Figures> {
    let mut rates: Vec<f64> = trials.iter().map(|trial| trial.rate).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let (slowest, fastest) = rates
        .first()
        .zip(rates.last())
        .context("no trial was made")?;
    let times = trials.iter().flat_map(|trial| trial.latencies.values());
    Ok(Figures {
        rate: rates[rates.len() / 2],
        slowest: *slowest,
        fastest: *fastest,
        times: Sample::new(times.copied()).context("nothing was allocated")?,
    })
}
