//! Liveness: once everything is healed, every address that a live node could announce is answered again in time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd_core::id::Epoch;
use vipd_core::proof::Proof;

use crate::operator::take_back;
use crate::runtime::{sleep, true_now};
use crate::world::World;

/// Between looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is said what is missing, in milliseconds.
const SAY: u64 = 500;
/// After how many milliseconds a holder has asked again about an address that somebody outside had.
const ASKED_AGAIN: u64 = 31_000;
/// The same for one that it could not ask about, and for a new one.
const ASKED: u64 = 2_000;

/// Waits until nothing is dark and all replicas have caught up; a violation if that takes longer than the plan's bound.
/// Clients go on asking for VIPs, of which each is dark for as long as its holder asks the link; and what somebody outside
/// had is asked about again some time later.
pub(crate) async fn demand(world: &Arc<World>) {
    let began = true_now();
    take_back(world).await;
    let goal = world.judge.look(|state| state.applied());
    let (mut next, mut noted) = (SAY, false);
    let mut asking = BTreeMap::new();
    loop {
        // What was asked for while there was no majority may come about only now.
        take_back(world).await;
        let took = (true_now() - began) / 1_000_000;
        let (dark, waiting) = dark(world, took, &mut asking);
        let behind = behind(world, goal);
        let frozen = world.judge.frozen();
        let well = dark.is_empty() && behind.is_empty() && frozen.is_empty();
        if well && !noted {
            noted = true;
            world.say(format_args!("--- all is well after {took} ms"));
            world.note_recovery(took);
        }
        if well && !waiting {
            return;
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
                "--- {n} are dark: {shown:?}; behind entry {goal}: {behind:?}; frozen: {frozen:?}"
            ));
        }
        if !well && took > world.plan.bound + if noted { ASKED_AGAIN } else { 0 } {
            world.judge.accuse_of(format!(
                "{took} ms after everything was healed {} addresses are dark: {}; behind entry {goal}: {behind:?}; frozen: {frozen:?}",
                dark.len(),
                shown.join(", ")
            ));
            return;
        }
        sleep(LOOK).await;
    }
}

/// For how long the link is being asked about an address under a token, as far as was looked: since when, in milliseconds.
type Asking = BTreeMap<(IpAddr, Epoch), u64>;

/// The addresses that nobody announces, though a live member could; and whether there are such that were in use, and are
/// yet to be asked about again.
fn dark(world: &World, took: u64, asking: &mut Asking) -> (Vec<(IpAddr, String)>, bool) {
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
            wanted.filter(|(address, _)| able.iter().any(|prefix| prefix.contains(*address)));
        let unanswered = eligible.filter(|(address, _)| world.judge.announcer(*address).is_none());
        let (mut dark, mut waiting) = (Vec::new(), false);
        for (address, of) in unanswered {
            let since = *asking.entry((address, of.epoch)).or_insert(took);
            let patience = match of.proof {
                Proof::Clear => 0,
                Proof::Unproven => ASKED,
                Proof::InUse { .. } => ASKED_AGAIN,
            };
            if took - since < patience {
                waiting |= matches!(of.proof, Proof::InUse { .. });
                continue;
            }
            let holder = match of.holder {
                Some(holder) => format!("holder n{holder}"),
                None => "no holder".to_owned(),
            };
            let vacating = of.vacating.map(|cause| format!(", vacating: {cause:?}"));
            let why = format!("{holder}{}, {:?}", vacating.unwrap_or_default(), of.proof);
            dark.push((address, why));
        }
        (dark, waiting)
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
