//! Allocation in memory: entries through `State::apply`, with nothing around it.

use std::fmt::Write;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};

use super::workload::{Kind, Site};
use crate::bench::Turn;
use crate::measure::report::{self, Conditions};
use crate::measure::stats::Sample;

/// A trial makes so many VIPs more and then deletes as many of all there are: enough for the clock, few enough for
/// the number held to mean something.
const MOST: u32 = 10_000;
const LEAST: u32 = 1_000;
/// More memory than this, and a pool costs some for each of its addresses: a bit each of a /8 would be 2 MiB.
const POOL_KIB: u64 = 1_024;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// With how many VIPs there, one after the other.
    pub held: Vec<u32>,
    /// How often each is measured; the kinds take turns.
    pub trials: usize,
    /// Where the table goes.
    pub out: PathBuf,
}

/// One line of the table.
struct Row {
    kind: Kind,
    held: u32,
    site: Site,
    /// The VIPs that are there, in the order in which they will be deleted.
    there: Vec<u32>,
    next: u32,
    allocate: Vec<Duration>,
    release: Vec<Duration>,
}

/// Measures and writes a table.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.trials > 0, "--trials is at least 1");
    let _turn = Turn::wait()?;
    let mut text = format!(
        "{}\n{} trials, CPU time for each VIP, median (least to most)\n",
        Conditions::machine(),
        options.trials
    );
    for kind in [Kind::V4, Kind::V6] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", empty_pool(kind)?);
    }
    let mut rows = Vec::new();
    for &held in &options.held {
        for kind in Kind::ALL {
            eprintln!("filling: {kind}, {held} held");
            rows.push(Row::new(kind, held)?);
        }
    }
    for trial in 1..=options.trials {
        eprintln!("trial {trial} of {}", options.trials);
        for row in &mut rows {
            row.trial()?;
        }
    }
    let _ = writeln!(
        text,
        "\n{:<17} {:>7}  {:<30}  {:<30}",
        "pool", "held", "allocate: ns, per second", "release: ns, per second"
    );
    for row in &rows {
        let (allocate, release) = (figure(&row.allocate)?, figure(&row.release)?);
        let (kind, held) = (row.kind, row.held);
        let _ = writeln!(text, "{kind:<17} {held:>7}  {allocate:<30}  {release:<30}");
    }
    println!("{text}");
    report::save(&options.out, "allocate.txt", &text)
}

impl Row {
    fn new(kind: Kind, held: u32) -> Result<Self> {
        let mut site = Site::new(kind)?;
        let entries = site.making(0..held)?;
        site.apply_all(&entries)?;
        site.ensure_holds(held)?;
        Ok(Self {
            kind,
            held,
            site,
            there: (0..held).collect(),
            next: held,
            allocate: Vec::new(),
            release: Vec::new(),
        })
    }

    fn trial(&mut self) -> Result<()> {
        let count = (self.held / 10).clamp(LEAST, MOST);
        let new = self.next..self.next + count;
        self.next = new.end;
        let entries = self.site.making(new.clone())?;
        let took = self.time(&entries, count)?;
        self.allocate.push(took);
        self.site.ensure_holds(self.held + count)?;
        // Whom to delete is scattered over all that are there, old and new.
        self.there.extend(new);
        scatter(&mut self.there, u64::from(self.next));
        let gone = self.there.split_off(self.held as usize);
        let entries = self.site.deleting(gone)?;
        let took = self.time(&entries, count)?;
        self.release.push(took);
        self.site.ensure_holds(self.held)
    }

    /// The CPU time that the entries take, for each of `count` VIPs.
    fn time(&mut self, entries: &[vipd_core::command::Proposal], count: u32) -> Result<Duration> {
        let began = cpu_time()?;
        self.site.apply_all(black_box(entries))?;
        Ok((cpu_time()? - began) / count)
    }
}

/// CPU time of this thread: what others do meanwhile is not counted, except for what they leave of the caches.
fn cpu_time() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    Ok(now
        .context("cannot read the CPU time of this thread")?
        .into())
}

/// Puts the items into an order that looks like none (Fisher and Yates, with Knuth's generator).
fn scatter(items: &mut [u32], seed: u64) {
    let mut state = seed;
    for i in (1..items.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        items.swap(i, (state >> 33) as usize % (i + 1));
    }
}

fn figure(times: &[Duration]) -> Result<String> {
    let sample = Sample::new(times.iter().copied()).context("no trial was made")?;
    let median = sample.median().as_nanos().max(1);
    let (least, most) = (sample.values()[0].as_nanos(), sample.max().as_nanos());
    let rate = 1_000_000_000 / median;
    Ok(format!("{median} ({least} to {most}), {rate}"))
}

/// Shows that a pool costs no memory for each of its addresses.
fn empty_pool(kind: Kind) -> Result<String> {
    let before = own_kib()?;
    let site = Site::new(kind)?;
    let cost = own_kib()?.saturating_sub(before);
    let pool = site.state.pools().values().next();
    let pool = pool.context("the pool that was just made is not there")?;
    let family = pool.spec.blocks[0].family();
    let usage = site.state.usage(pool, family);
    let available = usage
        .available
        .context("more addresses than can be counted")?;
    ensure!(
        cost <= POOL_KIB,
        "{kind}: the pool with {available} addresses took {cost} KiB, more than {POOL_KIB}"
    );
    Ok(format!(
        "{kind}: {available} addresses free, in {cost} KiB with all else of the state"
    ))
}

/// This process's own memory, in KiB.
fn own_kib() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.context("/proc/self/status has no RssAnon")?;
    number
        .parse()
        .with_context(|| format!("RssAnon {number:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_as_many_vips_as_it_found() {
        let mut row = Row::new(Kind::Placed, 50).unwrap();
        row.trial().unwrap();
        row.trial().unwrap();
        assert_eq!((row.there.len(), row.allocate.len()), (50, 2));
        assert!(
            row.there.iter().any(|number| *number >= 50),
            "old ones were deleted, too"
        );
    }

    #[test]
    fn scattering_loses_nothing() {
        let mut items: Vec<u32> = (0..1000).collect();
        scatter(&mut items, 7);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1000));
    }
}
