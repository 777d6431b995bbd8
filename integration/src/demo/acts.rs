//! The acts: what is done to the holder, and how long the client went without an answer.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::screen::{Screen, Tone};
use super::sole_holder;
use crate::Stamp;
use crate::bench::{Bench, GRACE};

/// How long the client is watched after all is well again: a second loss would show.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How long the daemon is frozen.
const FREEZE: Duration = Duration::from_secs(5);

/// One act and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// What was done.
    pub(super) what: String,
    /// Who held the VIP before.
    pub(super) from: String,
    /// Who held it after.
    pub(super) to: String,
    /// The client's longest time without an answer, for each address.
    pub(super) outages: Vec<Duration>,
    /// What was promised, if a number was.
    pub(super) limit: Option<Duration>,
}

/// Plays all acts.
pub(super) fn play(bench: &Bench, screen: &Screen) -> Result<Vec<Act>> {
    let mut acts = vec![steady(bench, screen)?];
    acts.push(power_off(bench, screen)?);
    let dark = acts[1].from.clone();
    acts.push(power_on(bench, screen, &dark)?);
    acts.push(drain(bench, screen)?);
    acts.push(freeze(bench, screen)?);
    Ok(acts)
}

fn steady(bench: &Bench, screen: &Screen) -> Result<Act> {
    let holder = sole_holder(bench)?;
    screen.say(
        Tone::Step,
        "act 1",
        "all is quiet: the client asks each millisecond, IPv4 and IPv6",
    );
    let from = Stamp::now();
    sleep(GRACE);
    act(bench, "steady state", &holder, &holder, from, None)
}

fn power_off(bench: &Bench, screen: &Screen) -> Result<Act> {
    let old = sole_holder(bench)?;
    screen.say(
        Tone::Step,
        "act 2",
        &format!("power cut on {old}, the holder: its link and all its processes are gone"),
    );
    let from = Stamp::now();
    bench.lab().host(&old).power_off()?;
    let new = bench
        .wait_for_one_holder("another host serves", |name| name != old)?
        .name();
    sleep(AFTERMATH);
    let limit = Some(Duration::from_millis(300));
    act(
        bench,
        &format!("power cut on {old}"),
        &old,
        new,
        from,
        limit,
    )
}

fn power_on(bench: &Bench, screen: &Screen, dark: &str) -> Result<Act> {
    let holder = sole_holder(bench)?;
    screen.say(
        Tone::Step,
        "act 3",
        &format!("{dark} is back: the VIP must stay where it is"),
    );
    let from = Stamp::now();
    bench.lab().host(dark).power_on()?;
    bench.cluster().node(dark).run()?;
    bench.cluster().wait_until_whole()?;
    sleep(GRACE);
    let now = sole_holder(bench)?;
    act(
        bench,
        &format!("{dark} comes back"),
        &holder,
        &now,
        from,
        None,
    )
}

fn drain(bench: &Bench, screen: &Screen) -> Result<Act> {
    let old = sole_holder(bench)?;
    screen.say(Tone::Step, "act 4", &format!("vipctl node drain {old}"));
    let from = Stamp::now();
    bench.cluster().vipctl(&["node", "drain", &old])?;
    let new = bench
        .wait_for_one_holder("another host serves", |name| name != old)?
        .name();
    sleep(AFTERMATH);
    let limit = Some(Duration::from_millis(20));
    let act = act(bench, &format!("drain of {old}"), &old, new, from, limit);
    bench
        .cluster()
        .vipctl(&["node", "undrain", &old])
        .context("cannot undo the drain")?;
    act
}

fn freeze(bench: &Bench, screen: &Screen) -> Result<Act> {
    let old = sole_holder(bench)?;
    let node = bench.cluster().node(&old);
    screen.say(
        Tone::Step,
        "act 5",
        &format!("SIGSTOP for the daemon of {old}; its kernel runs on"),
    );
    let (from, begin) = (Stamp::now(), Instant::now());
    node.freeze()?;
    let new = bench
        .wait_for_one_holder("another host serves", |name| name != old)?
        .name();
    sleep(FREEZE.saturating_sub(begin.elapsed()));
    screen.say(
        Tone::Step,
        "act 5",
        &format!("SIGCONT: {old} wakes up and must not believe it still holds"),
    );
    node.thaw()?;
    sleep(2 * AFTERMATH);
    act(
        bench,
        &format!("{old} frozen for 5 s"),
        &old,
        new,
        from,
        None,
    )
}

fn act(
    bench: &Bench,
    what: &str,
    from: &str,
    to: &str,
    since: Stamp,
    limit: Option<Duration>,
) -> Result<Act> {
    Ok(Act {
        what: what.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        outages: bench
            .outages(since)
            .iter()
            .map(crate::probe::Gap::length)
            .collect(),
        limit,
    })
}
