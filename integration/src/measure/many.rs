//! One trial with many VIPs: all of them on one holder, one fault, and when each is served again.

use std::net::IpAddr;
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::fault::Fault;
use super::owners;
use super::stats::Sample;
use super::sweep::{Sweep, Swept};
use super::system::System;
use super::trial::{Trial, phase, tail};
use super::watch::Seen;
use crate::Stamp;
use crate::lab::Mac;
use crate::probe::Probe;

/// How long all VIPs may take to be on one host before a trial.
const REST: Duration = Duration::from_secs(60);
/// How long the last VIP may take to be served again; those that are not count as lost.
const LAST: Duration = Duration::from_secs(20);
/// A VIP that moved with a shorter gap was never silent: then time counts from the fault.
const UNNOTICED: Duration = Duration::from_millis(5);
/// A probe asks long enough before the fault to know what silence is.
const LEAD: Duration = Duration::from_millis(100);

/// Runs one trial, and leaves the system mended (though not yet settled).
pub(super) fn run(system: &mut dyn System, fault: Fault) -> Result<Trial> {
    system.settle()?;
    let resting = system.gather(fault)?;
    let addresses = system.addresses().to_vec();
    let mac = system.lab().host(&resting).mac();
    at_rest(system, &addresses, mac)
        .with_context(|| format!("{resting} does not serve all VIPs"))?;
    let holder = system.prepare(fault, &resting)?;
    let sweep = Sweep::start(system.lab(), &addresses)?;
    // It tells when the silence began: the fault itself takes some milliseconds to be done.
    let probe = Probe::start(system.lab().client(), addresses[0])?;
    sleep(LEAD);
    phase(system.period());

    let from = Stamp::now();
    // A command may wait until the last VIP is gone: asking begins with it, not after it.
    let (struck, swept) = thread::scope(|scope| {
        let strike = scope.spawn(|| system.strike(fault, &holder));
        let swept = sweep.run(Some(mac), from, LAST, tail(fault));
        let panicked = |_| Err(anyhow!("the thread of the fault panicked"));
        (strike.join().unwrap_or_else(panicked), swept)
    });
    let silent = probe.silent_since(from, UNNOTICED).unwrap_or(from);
    drop((sweep, probe));
    let mended = system.mend(fault, &holder);
    struck?;
    mended?;
    Ok(Trial {
        system: system.name(),
        fault,
        vips: system.vips(),
        at: from,
        holder,
        dark: swept.lost > 0,
        seen: judge(&swept, silent, mac, system.moves(fault)),
    })
}

/// Before the fault every VIP is served, and by the one host.
fn at_rest(system: &dyn System, addresses: &[IpAddr], holder: Mac) -> Result<()> {
    let sweep = Sweep::start(system.lab(), addresses)?;
    let swept = sweep.run(None, Stamp::now(), REST, Duration::ZERO);
    ensure!(
        swept.lost == 0,
        "{} of {} are not served by anybody",
        swept.lost,
        addresses.len()
    );
    let strangers = swept
        .answers
        .values()
        .flatten()
        .filter(|answer| answer.mac != holder)
        .count();
    ensure!(strangers == 0, "others answered {strangers} times");
    Ok(())
}

fn judge(swept: &Swept, silent: Stamp, holder: Mac, moves: usize) -> Seen {
    let outages = Sample::new(swept.served.iter().map(|at| at.since(silent)));
    let announced = Sample::new(swept.announced.iter().map(|at| at.since(silent)));
    let false_moves = swept
        .answers
        .values()
        .map(|answers| owners::takeovers(answers, holder).saturating_sub(moves));
    Seen {
        outage: outages.as_ref().map_or(Duration::ZERO, Sample::max),
        median_vip: outages.as_ref().map_or(Duration::ZERO, Sample::median),
        announced: announced.as_ref().map(Sample::max),
        lost: swept.lost,
        // Each address is asked too seldom to tell.
        overlap: None,
        false_moves: false_moves.sum(),
        server: None,
    }
}
