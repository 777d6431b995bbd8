//! Forgets flows that are over, on a thread of its own.
//!
//! It reads the whole table every few seconds (0.3 µs a half; one by one it would be 1.3 µs), part by part, and looks
//! closer only at those that seem to be over. While the table is filled by a flood it pauses less.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use vipd_datapath_common::{
    AddressKey,
    balance::{Flow, FlowKey, Half, flow_flags},
};

use super::{
    flows::{Door, FlowTable},
    news::News,
};
use crate::{
    DatapathError, FlowNews,
    balance::{
        Bounds, Times,
        collect::{is_over, is_unanswered, ns},
    },
    kernel::{batch::Reading, boottime_ns},
};

/// From one look at all flows to the next it is what [`Bounds::collect`] says, and so many times as long as the look has
/// taken: a large table takes no more than a twentieth of a CPU.
const WORTH: u32 = 20;
/// The same while more than half of the table is in use: then it is more urgent than what it costs.
const WORTH_OF_FLOOD: u32 = 1;
/// Flows forgotten between two short pauses: the table is for the programs first.
const AT_ONCE: usize = 1_024;
const BREATH: Duration = Duration::from_millis(1);

/// CPU time of this thread so far.
fn worked() -> Duration {
    // A thread has always a clock of its own; without one it is looked as often as may be.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// How long to wait after a look that has `taken` so much CPU time and left so many `halves` in a table of `elements`.
fn pause(every: Duration, taken: Duration, halves: usize, elements: usize) -> Duration {
    let worth = if halves > elements / 2 {
        WORTH_OF_FLOOD
    } else {
        WORTH
    };
    every.max(taken * worth)
}

/// The thread, as the datapath holds it.
pub(super) struct Collector {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// There are services, so there may be flows.
    wanted: bool,
    /// What the last look found.
    found: Found,
    stopped: bool,
}

/// Halves of flows that a look has found and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// All.
    halves: usize,
    /// Those to backends on this host.
    pub(super) local: usize,
    /// Those whose backends see the client's address.
    pub(super) kept: usize,
    /// How many looks there have been.
    pub(super) looks: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector {
    pub(super) fn spawn(door: &Door, news: News, bounds: &Bounds) -> Result<Self, DatapathError> {
        let shared = Arc::new(Shared::default());
        let table = door.open()?;
        let mut looker = Looker {
            elements: table.elements()?,
            table,
            news,
            since: Since::new(),
            times: bounds.times,
        };
        let every = bounds.collect;
        let thread = thread::Builder::new()
            .name("vipd-flows".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &mut looker, every)
            })
            .map_err(|source| DatapathError::system("start the thread for flows", source))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Whether there are services. Without, it sleeps once no flow is left.
    pub(super) fn want(&self, services: bool) {
        let mut state = self.shared.state();
        if state.wanted != services {
            state.wanted = services;
            self.shared.changed.notify_one();
        }
    }

    /// What the last look found.
    pub(super) fn found(&self) -> Found {
        self.shared.state().found
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn run(shared: &Shared, looker: &mut Looker, every: Duration) {
    loop {
        let start = worked();
        let found = looker.look(&|| shared.state().stopped);
        let halves = found.as_ref().map_or(0, |found| found.halves);
        let pause = pause(
            every,
            worked().saturating_sub(start),
            halves,
            looker.elements,
        );
        let mut state = shared.state();
        match found {
            Ok(found) => {
                let looks = state.found.looks + 1;
                state.found = Found { looks, ..found };
            }
            Err(error) => tracing::warn!(%error, "flows that are over may stay"),
        }
        let idle = |state: &mut State| !state.stopped && !state.wanted && state.found.halves == 0;
        let state = shared
            .changed
            .wait_while(state, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let (state, _) = shared
            .changed
            .wait_timeout_while(state, pause, |state| !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return;
        }
    }
}

/// Since when this node has held which addresses (CLOCK_BOOTTIME ns); `None`: it does not.
type Since = BTreeMap<AddressKey, Option<u64>>;

/// A flow that seems to be over.
enum Suspect {
    /// By the client's half.
    Over(FlowKey, Flow),
    /// Its backend is silent; the key is the client's.
    Silent(FlowKey),
    /// What may be left of a pair, by whatever mishap: the backend's half, older than anything is kept.
    Left(FlowKey, Flow),
}

impl Suspect {
    /// The flow, by its client's half; of what is left of a pair nobody was told.
    fn client(&self) -> Option<FlowKey> {
        match self {
            Self::Over(key, _) | Self::Silent(key) => Some(*key),
            Self::Left(..) => None,
        }
    }
}

struct Looker {
    table: FlowTable,
    /// How many halves it has room for.
    elements: usize,
    news: News,
    /// As far as the last look has met them.
    since: Since,
    times: Times,
}

impl Looker {
    /// Looks at all flows once.
    fn look(&mut self, stopped: &dyn Fn() -> bool) -> Result<Found, DatapathError> {
        let now = boottime_ns();
        let mut found = Found::default();
        let mut since = Since::new();
        let mut reading = Reading::new();
        let mut gone = Vec::new();
        while let Some(over) = self.part(&mut reading, &mut found, now, &mut since)? {
            for suspect in over {
                if self.forget(&suspect, now, &since)? {
                    // The other half may have been counted, too: the next look knows.
                    found.halves = found.halves.saturating_sub(1);
                    gone.extend(suspect.client());
                }
                if gone.len() >= AT_ONCE {
                    self.tell(&mut gone);
                    if stopped() {
                        return Ok(found);
                    }
                    thread::sleep(BREATH);
                }
            }
        }
        self.since = since;
        self.tell(&mut gone);
        Ok(found)
    }

    /// The next part of the table: which of its flows seem to be over. `None` at the end.
    fn part(
        &self,
        reading: &mut Reading<FlowKey, Half>,
        found: &mut Found,
        now: u64,
        since: &mut Since,
    ) -> Result<Option<Vec<Suspect>>, DatapathError> {
        let Some(part) = self.table.next(reading)? else {
            return Ok(None);
        };
        let mut over = Vec::new();
        for (key, flow) in part {
            found.halves += 1;
            found.local += usize::from(flow.has(flow_flags::LOCAL));
            found.kept += usize::from(flow.has(flow_flags::KEEP));
            let reverse = flow.has(flow_flags::REVERSE);
            if reverse && self.seems_silent(key, flow, now, since)? {
                over.push(Suspect::Silent(flow.other(key.protocol)));
            } else if self.seems_over(key, flow, now, since)? {
                over.push(if reverse {
                    Suspect::Left(*key, *flow)
                } else {
                    Suspect::Over(*key, *flow)
                });
            }
        }
        Ok(Some(over))
    }

    /// Forgets what is still over, with all that both halves know by now; whether it was.
    fn forget(
        &mut self,
        suspect: &Suspect,
        now: u64,
        since: &Since,
    ) -> Result<bool, DatapathError> {
        match suspect {
            Suspect::Over(key, flow) => self.forget_over(key, flow, now, since),
            Suspect::Silent(key) => self.forget_silent(key, now, since),
            Suspect::Left(key, flow) => {
                let alone = self.table.get(&flow.other(key.protocol))?.is_none();
                if alone {
                    self.table.forget_half(key)?;
                }
                Ok(alone)
            }
        }
    }

    fn tell(&self, gone: &mut Vec<FlowKey>) {
        self.news.tell(gone.drain(..).map(FlowNews::Gone).collect());
    }

    /// By this half alone; the other one may know better.
    fn seems_over(
        &self,
        key: &FlowKey,
        flow: &Flow,
        now: u64,
        since: &mut Since,
    ) -> Result<bool, DatapathError> {
        if flow.has(flow_flags::REVERSE) {
            return Ok(now.saturating_sub(flow.seen) > ns(self.times.standby()));
        }
        let since = self.held_since(&key.destination, now, since)?;
        Ok(is_over(
            &self.times,
            key.protocol,
            flow,
            flow.seen,
            since,
            now,
        ))
    }

    /// Whether this is the half of a backend that has been silent for too long.
    fn seems_silent(
        &self,
        key: &FlowKey,
        flow: &Flow,
        now: u64,
        since: &mut Since,
    ) -> Result<bool, DatapathError> {
        if !flow.has(flow_flags::REVERSE) {
            return Ok(false);
        }
        let since = self.held_since(&flow.source, now, since)?;
        Ok(is_unanswered(&self.times, key.protocol, flow, since, now))
    }

    /// Since when this node has held a virtual IP; looked up once a look.
    fn held_since(
        &self,
        vip: &AddressKey,
        now: u64,
        since: &mut Since,
    ) -> Result<Option<u64>, DatapathError> {
        if let Some(since) = since.get(vip) {
            return Ok(*since);
        }
        let serves = self.table.serves(vip)?;
        let before = self.since.get(vip).copied().flatten();
        let held = serves.then(|| before.unwrap_or(now));
        since.insert(*vip, held);
        Ok(held)
    }

    /// Forgets the flow of this client's half if its backend is still silent.
    fn forget_silent(
        &mut self,
        key: &FlowKey,
        now: u64,
        since: &Since,
    ) -> Result<bool, DatapathError> {
        let Some(flow) = self.table.get(key)? else {
            return Ok(false);
        };
        let Some(answers) = self.table.get(&flow.other(key.protocol))? else {
            return Ok(false);
        };
        let since = since.get(&key.destination).copied().flatten();
        if !is_unanswered(&self.times, key.protocol, &answers, since, now) {
            return Ok(false);
        }
        self.table.forget(key, &flow)?;
        Ok(true)
    }

    /// Forgets a flow if it is still over, with all that both halves know by now.
    fn forget_over(
        &mut self,
        key: &FlowKey,
        before: &Flow,
        now: u64,
        since: &Since,
    ) -> Result<bool, DatapathError> {
        let Some(flow) = self.table.get(key)? else {
            return Ok(false);
        };
        let mut seen = flow.seen.max(before.seen);
        if !flow.has(flow_flags::DSR) {
            let other = self.table.get(&flow.other(key.protocol))?;
            seen = seen.max(other.map_or(0, |other| other.seen));
        }
        let since = since.get(&key.destination).copied().flatten();
        if !is_over(&self.times, key.protocol, &flow, seen, since, now) {
            return Ok(false);
        }
        self.table.forget(key, &flow)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_looked_at_without_a_pause_that_would_let_it_win() {
        const SECOND: Duration = Duration::from_secs(1);
        let every = 5 * SECOND;
        for (taken, halves, expected) in [
            (SECOND / 10, 50, every),
            (SECOND, 50, 20 * SECOND),
            (SECOND, 51, every),
            (7 * SECOND, 100, 7 * SECOND),
        ] {
            assert_eq!(
                pause(every, taken, halves, 100),
                expected,
                "{taken:?} {halves}"
            );
        }
    }
}
