//! Liveness: once everything is healed, every address that a live node could announce is answered again in time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::nemesis::undrain;
use crate::runtime::{sleep, true_now};
use crate::world::World;

/// Between looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is said what is missing, in milliseconds.
const SAY: u64 = 500;

/// Waits until nothing is dark and all replicas have caught up; a violation if that takes longer than the plan's bound.
pub(crate) async fn demand(world: &Arc<World>) {
    let began = true_now();
    undrain(world).await;
    let goal = world.judge.look(|state| state.applied());
    let mut next = SAY;
    loop {
        let dark = dark(world);
        let behind = behind(world, goal);
        let took = (true_now() - began) / 1_000_000;
        if dark.is_empty() && behind.is_empty() {
            world.say(format_args!("--- all is well after {took} ms"));
            return world.note_recovery(took);
        }
        let shown: Vec<_> = dark
            .iter()
            .take(3)
            .map(|(address, why)| format!("{address} ({why})"))
            .collect();
        if took >= next {
            next += SAY;
            let n = dark.len();
            world.say(format_args!(
                "--- {n} are dark: {shown:?}; behind entry {goal}: {behind:?}"
            ));
        }
        if took > world.plan.bound {
            world.judge.accuse_of(format!(
                "{took} ms after everything was healed {} addresses are dark: {}; behind entry {goal}: {behind:?}",
                dark.len(),
                shown.join(", ")
            ));
            return;
        }
        sleep(LOOK).await;
    }
}

/// The addresses that nobody announces, though a live member could.
fn dark(world: &World) -> Vec<(IpAddr, String)> {
    let hosts = world.hosts();
    let able: Vec<_> = hosts
        .iter()
        .filter(|host| {
            host.process()
                .is_some_and(|process| !process.is_over() && process.role().holds())
        })
        .flat_map(|host| host.interfaces())
        .filter(|interface| interface.up)
        .flat_map(|interface| interface.prefixes)
        .collect();
    world.judge.look(|state| {
        let wanted = state
            .allocations()
            .iter()
            .filter(|(_, allocation)| !allocation.freeing);
        let eligible =
            wanted.filter(|(address, _)| able.iter().any(|prefix| prefix.contains(**address)));
        let unanswered = eligible.filter(|(address, _)| world.judge.announcer(**address).is_none());
        let tell = |holder: Option<vipd_core::id::NodeId>| match holder {
            Some(holder) => format!("holder n{holder}"),
            None => "no holder".into(),
        };
        unanswered
            .map(|(address, allocation)| {
                let holder = tell(allocation.holder);
                let vacating = allocation
                    .vacating
                    .map(|cause| format!(", vacating: {cause:?}"));
                (*address, holder + &vacating.unwrap_or_default())
            })
            .collect()
    })
}

/// The daemons that have not applied entry `goal`.
fn behind(world: &World, goal: u64) -> Vec<String> {
    let late = world
        .processes()
        .into_iter()
        .filter(|process| process.shared.applied() < goal);
    late.map(|process| format!("n{} at {}", process.me(), process.shared.applied()))
        .collect()
}
