//! How many requests a second are answered through each way: on connections that are kept, and on one for each request.
//! Client, server and way share the machine's CPUs, so it is what all of it costs together; and CPU time says so on a
//! machine that is not quiet, too.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::Options;
use super::figures::{Spread, target};
use super::site::Site;
use super::way::{Arms, HTTP, Way};
use crate::cluster::{PATIENCE, wait};
use crate::measure::usage::cpu_time;
use crate::tools::{self, Connections, Load};

/// Connections at a time.
const CONNECTIONS: usize = 64;
const KINDS: [(Connections, &str); 2] =
    [(Connections::Kept, "kept"), (Connections::New, "one each")];
/// Of vipd's rate and that of plain routing, and of haproxy; on connections that are kept.
const TARGETS: [(Way, f64); 2] = [(Way::Routing, 0.95), (Way::Haproxy, 1.5)];

/// Sets up and measures; the table.
pub(super) fn run(options: &Options) -> Result<String> {
    eprintln!("setting up the hosts that requests go through");
    let site = Site::start(&options.binaries, &Way::REQUESTS, Arms::Two)?;
    for way in Way::REQUESTS {
        let what = format!("a page comes through {}", way.name());
        let asked = ["-sS", "--fail", "--max-time", "2", &url(way)];
        wait(&what, PATIENCE, || {
            tools::run(site.client(), PATIENCE, "curl", &asked).map(Some)
        })?;
    }
    let mut found = vec![vec![]; KINDS.len() * Way::REQUESTS.len()];
    for number in 1..=options.trials {
        let mut found = found.iter_mut();
        for (kept, kind) in KINDS {
            for way in Way::REQUESTS {
                let wanted = Load {
                    url: &url(way),
                    connections: CONNECTIONS,
                    kept,
                    span: options.span,
                };
                let trial = trial(&site, way, &wanted);
                let trial = trial.with_context(|| format!("{kind}, through {}", way.name()))?;
                eprintln!(
                    "{}, connections {kind}, trial {number}: {:.0} requests/s, {:.1} us each",
                    way.name(),
                    trial.rate,
                    trial.cost
                );
                found.next().context("more trials than rows")?.push(trial);
            }
        }
    }
    table(options, &found)
}

/// What one trial found.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Requests that were answered in a second.
    rate: f64,
    /// Microseconds of CPU time for each, of all programs: the kernel counts what it does for packets as theirs.
    cost: f64,
}

fn trial(site: &Site, way: Way, wanted: &Load<'_>) -> Result<Trial> {
    let used = || -> Result<Duration> {
        // wrk is a child that has ended by then.
        let ours = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let wrk = [ours.user_time(), ours.system_time()];
        let wrk = wrk.map(|time| time.num_microseconds()).iter().sum::<i64>();
        let wrk = Duration::from_micros(wrk.try_into().context("a negative CPU time")?);
        Ok(wrk + cpu_time(site.server())? + cpu_time(site.host(way))?)
    };
    let before = used()?;
    let answered = tools::load(site.client(), wanted)?;
    let took = used()? - before;
    Ok(Trial {
        rate: answered.rate,
        cost: took.as_secs_f64() * 1e6 / answered.requests,
    })
}

fn url(way: Way) -> String {
    format!("http://{}:{HTTP}/", way.target())
}

fn table(options: &Options, found: &[Vec<Trial>]) -> Result<String> {
    let mut text = format!(
        "\nrequests: wrk, {CONNECTIONS} connections, to nginx; {} trials of {} s, in turn; median (least to most); x: CPU time of the other / its own\n\
         {:<11}  {:<14} {:>28} {:>22}  x routing  x haproxy\n",
        options.trials,
        options.span.as_secs(),
        "connections",
        "",
        "requests/s",
        "us of CPU a request"
    );
    let mut rows = found.iter();
    let mut targets = String::new();
    for (kept, kind) in KINDS {
        let mut figures = vec![];
        for way in Way::REQUESTS {
            let trials = rows.next().context("fewer rows than ways")?;
            let of =
                |what: fn(&Trial) -> f64| Spread::of(&trials.iter().map(what).collect::<Vec<_>>());
            figures.push((way, of(|trial| trial.rate)?, of(|trial| trial.cost)?));
        }
        let median = |of: Way| {
            let found = figures.iter().find(|(way, ..)| *way == of);
            found.map_or((f64::NAN, f64::NAN), |(_, rate, cost)| {
                (rate.median, cost.median)
            })
        };
        for (way, rate, cost) in &figures {
            let ratio = |beside| median(beside).1 / cost.median;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{kind:<11}  {:<14} {:>28} {:>22}  {:>9.2}  {:>9.2}",
                way.name(),
                rate.shown(),
                cost.shown(),
                ratio(Way::Routing),
                ratio(Way::Haproxy)
            );
        }
        if kept == Connections::Kept {
            for (beside, wanted) in TARGETS {
                let (ours, others) = (median(Way::Vipd), median(beside));
                let what = format!("vipd / {}, connections {kind}, ", beside.name());
                targets += &target(&format!("{what}by rate"), ours.0 / others.0, wanted);
                targets += &target(&format!("{what}by CPU time"), others.1 / ours.1, wanted);
            }
        }
    }
    Ok(text + &targets)
}
