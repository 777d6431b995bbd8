//! Many seeds at once, one thread each.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Aim, Mutant, Plan, Report, lock, run};

/// Without a terminal, a line this often.
const SAY: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) seconds: u64,
    pub(crate) aim: Option<Aim>,
    pub(crate) mutant: Mutant,
    pub(crate) budget: Option<Duration>,
    pub(crate) at_least: u64,
    pub(crate) jobs: Option<usize>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    /// The first report with a violation.
    pub(crate) found: Option<Report>,
    seeds: u64,
    virtual_ns: u64,
    took: Duration,
    packets: u64,
    entries: u64,
    handovers: u64,
    /// How long each took, in milliseconds, and in which seed.
    recoveries: Vec<(u64, u64)>,
}

impl Crew {
    /// Runs seeds on all CPUs until they are done, the budget is over, or something is found.
    pub(crate) fn work(orders: &Orders) -> Self {
        let began = Instant::now();
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let crew = Mutex::new(Self::default());
        let progress = Progress::new(orders);
        let jobs = orders
            .jobs
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let over = orders
                    .budget
                    .is_some_and(|budget| began.elapsed() >= budget);
                if n >= orders.seeds || (over && n >= orders.at_least) {
                    return;
                }
                let plan = Plan::asked(orders.first + n, orders.seconds, orders.aim);
                let report = run(plan, orders.mutant, false);
                stop.fetch_or(!report.violations.is_empty(), Ordering::Relaxed);
                let mut crew = lock(&crew);
                crew.add(report);
                progress.say(&crew, began);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(work);
            }
        });
        progress.end();
        let mut crew = std::mem::take(&mut *lock(&crew));
        crew.took = began.elapsed();
        crew
    }

    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.virtual_ns += report.virtual_ns;
        self.packets += report.packets;
        self.entries += report.entries;
        self.handovers += report.handovers;
        let seed = report.plan.seed;
        let took = report.recoveries.iter().map(|took| (*took, seed));
        self.recoveries.extend(took);
        if !report.violations.is_empty() && self.found.is_none() {
            self.found = Some(report);
        }
    }
}

impl fmt::Display for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.virtual_ns as f64 / 60e9;
        let speed = self.virtual_ns as f64 / 1e9 / self.took.as_secs_f64().max(0.001);
        writeln!(
            f,
            "{} seeds, {minutes:.0} virtual minutes in {:.0} s ({speed:.0} times real time): {} packets, {} entries, {} times \
             an address began to be announced",
            self.seeds,
            self.took.as_secs_f64(),
            self.packets,
            self.entries,
            self.handovers,
        )?;
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let at = |part: usize| {
            sorted
                .get(sorted.len().saturating_sub(1) * part / 100)
                .copied()
                .unwrap_or_default()
        };
        writeln!(
            f,
            "{} times everything was healed, and all was well after {} ms (median), {} ms (99 %), {} ms (longest, in seed {})",
            sorted.len(),
            at(50).0,
            at(99).0,
            at(100).0,
            at(100).1,
        )
    }
}

/// A bar on a terminal, else a line now and then.
struct Progress {
    bar: Option<ProgressBar>,
    said: Mutex<Instant>,
}

impl Progress {
    fn new(orders: &Orders) -> Self {
        let length = (orders.seeds < u64::MAX).then_some(orders.seeds);
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{elapsed_precise} {wide_bar} {pos}/{len} seeds {msg}",
            );
            let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            said: Mutex::new(Instant::now()),
        }
    }

    fn say(&self, crew: &Crew, began: Instant) {
        if let Some(bar) = &self.bar {
            return bar.set_position(crew.seeds);
        }
        let mut said = lock(&self.said);
        if said.elapsed() >= SAY {
            *said = Instant::now();
            let minutes = crew.virtual_ns as f64 / 60e9;
            println!(
                "    {} seeds, {minutes:.0} virtual minutes, {:.0} s",
                crew.seeds,
                began.elapsed().as_secs_f64()
            );
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
