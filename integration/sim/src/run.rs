//! One run: a seed's plan from beginning to end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::AsyncRuntime;

use crate::lock;
use crate::mutant::Mutant;
use crate::plan::Plan;
use crate::runtime::{NodeRuntime, sleep, spawn, true_now};
use crate::world::World;
use crate::{clients, cluster, nemesis, panics, recovery};

/// How often the run looks whether something was found.
const LOOK: Duration = Duration::from_millis(100);

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// What is wrong; nothing, one hopes.
    pub violations: Vec<String>,
    /// The end of the trace.
    pub tail: Vec<String>,
    /// The hash of the whole trace: the same for the same seed.
    pub hash: u64,
    /// Virtual time, in nanoseconds.
    pub virtual_ns: u64,
    /// Real time.
    pub took: Duration,
    /// Packets sent.
    pub packets: u64,
    /// Entries applied.
    pub entries: u64,
    /// How many times an address began to be announced.
    pub handovers: u64,
    /// How long each healed round took to be well again, in milliseconds.
    pub recoveries: Vec<u64>,
}

impl Report {
    /// The run in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let plan = &self.plan;
        let longest = self.recoveries.iter().max().copied().unwrap_or(0);
        format!(
            "seed {}: {} voters, {} agents, {} VIPs; {:.1} virtual s in {:.1} s; {} packets, {} entries, {} times an address \
             began to be announced; well again {} times, after {longest} ms at most",
            plan.seed,
            plan.voters,
            plan.agents,
            plan.vips,
            self.virtual_ns as f64 / 1e9,
            self.took.as_secs_f64(),
            self.packets,
            self.entries,
            self.handovers,
            self.recoveries.len(),
        )
    }
}

/// Runs `plan`, with `mutant` planted, until its time is over or something is found.
#[must_use]
pub fn run(plan: Plan, mutant: Mutant, echo: bool) -> Report {
    let began = Instant::now();
    panics::silence();
    let world = World::new(plan.clone(), mutant);
    if echo {
        world.trace.echo();
    }
    let mut runtime = NodeRuntime::with_seed(plan.seed);
    let body = AssertUnwindSafe(|| runtime.block_on(simulate(world.clone())));
    let ended = std::panic::catch_unwind(body);
    let mut violations: Vec<String> = world
        .judge
        .found()
        .into_iter()
        .map(|found| found.0)
        .collect();
    violations.extend(lock(&world.panics).drain(..));
    let virtual_ns = match ended {
        Ok(Ok(virtual_ns)) => virtual_ns,
        Ok(Err(why)) => {
            violations.push(why);
            0
        }
        Err(_) => {
            violations.push(format!("the simulation itself ended: {}", panics::last()));
            0
        }
    };
    let report = Report {
        violations,
        tail: world.trace.tail(60),
        hash: world.trace.hash(),
        virtual_ns,
        took: began.elapsed(),
        packets: world.net.sent(),
        entries: world.judge.look(vipd_core::state::State::applied),
        handovers: world.judge.handovers(),
        recoveries: world.recoveries(),
        plan,
    };
    world.end();
    drop(runtime);
    world.net.clear();
    report
}

async fn simulate(world: Arc<World>) -> Result<u64, String> {
    let carrier = world.net.clone();
    spawn(async move { carrier.carry().await });
    cluster::set_up(&world).await?;
    world.say(format_args!("--- the cluster is there"));
    for number in 0..world.plan.clients {
        spawn(clients::write_for_ever(world.clone(), number));
    }
    spawn(nemesis::break_for_ever(world.clone()));
    let end = true_now() + world.plan.seconds * 1_000_000_000;
    while true_now() < end && world.judge.is_content() && lock(&world.panics).is_empty() {
        sleep(LOOK).await;
    }
    if world.judge.is_content() && lock(&world.panics).is_empty() {
        nemesis::heal(&world).await;
        recovery::demand(&world).await;
        world.judge.check_ledger();
    }
    Ok(true_now())
}
