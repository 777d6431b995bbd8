//! One trial: a system at rest, one fault at any moment of its period, and what client and wire saw of it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::fault::Fault;
use super::many;
use super::system::System;
use super::watch::{Seen, Watch};
use crate::Stamp;
use crate::probe::Reply;

/// How long a system may need to be at rest: the slowest one has a client without answers for eight seconds.
const REST: Duration = Duration::from_secs(40);
/// How long the client may be without an answer; after that the trial says "dark".
const DARK: Duration = Duration::from_secs(12);
/// How long is watched at least after the client is served again.
const TAIL: Duration = Duration::from_millis(300);
/// The same after faults that leave something behind for some seconds: vipd's former holder hands packets on for three, and is
/// handed nothing itself for five; and the lease of a daemon that is replaced was stretched by two.
const LONG_TAIL: Duration = Duration::from_millis(5500);

/// What came of one trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The system, with its setting.
    pub system: String,
    /// What was done.
    pub fault: Fault,
    /// How many VIPs it had.
    pub vips: usize,
    /// The moment of the fault.
    pub at: Stamp,
    /// Who held the VIP.
    pub holder: String,
    /// What was seen of it.
    pub seen: Seen,
    /// The client was without an answer at the end of the watch, and for as long as was waited then.
    pub dark: bool,
}

/// Runs one trial, and leaves the system mended (though not yet settled).
pub(super) fn run(system: &mut dyn System, fault: Fault) -> Result<Trial> {
    let name = system.name();
    let done = if system.vips() == 1 {
        attempt(system, fault)
    } else {
        many::run(system, fault)
    };
    done.with_context(|| format!("{name}: a trial of {fault} cannot be made"))
}

/// Waits for some part of `period`: a fault is as likely at any moment between two beats as at any other. The clock's
/// nanoseconds are the dice.
pub(super) fn phase(period: Duration) {
    let period = period.as_nanos() as u64;
    sleep(Duration::from_nanos(Stamp::now().0 % period.max(1)));
}

/// How long a trial goes on to watch once the client is served again; the same for every system.
pub(super) fn tail(fault: Fault) -> Duration {
    if fault.leaves_traces() {
        LONG_TAIL
    } else {
        TAIL
    }
}

fn attempt(system: &mut dyn System, fault: Fault) -> Result<Trial> {
    system.settle()?;
    let watch = Watch::start(system.lab(), system.addresses())?;
    let resting = watch.steady(system.home(), REST)?;
    let holder = system.prepare(fault, &resting)?;
    if fault != Fault::Failback {
        watch.steady(Some(&holder), REST)?;
    }
    phase(system.period());

    let from = Stamp::now();
    let struck = system.strike(fault, &holder);
    let back = struck.map(|()| {
        if fault.may_split() {
            // Held so long that another one surely takes over, and for a while both could answer.
            sleep(system.detection() * 3 / 2 + TAIL * 2);
        } else {
            let replaced = |reply: &Reply| system.moves(fault) == 0 || *reply.host != *holder;
            watch.served(from, DARK, replaced);
            sleep(tail(fault));
        }
        !watch.served(Stamp::now(), DARK, |_| true)
    });
    let mac = system.lab().host(&holder).mac();
    let seen = watch.seen(from, mac, system.moves(fault));
    drop(watch);
    // Mended also after a failure, so that the next trial has a chance.
    let mended = system.mend(
        fault,
        if fault == Fault::Heal {
            &resting
        } else {
            &holder
        },
    );
    let (dark, seen) = (back?, seen?);
    mended?;
    Ok(Trial {
        system: system.name(),
        fault,
        vips: 1,
        at: from,
        holder,
        seen,
        dark,
    })
}
