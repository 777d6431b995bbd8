//! Whoever breaks things: at random, some at a time, and heals them all again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vipd_core::command::Command;
use vipd_core::node::Role;

use crate::aims;
use crate::clients::propose;
use crate::cluster;
use crate::dice::Dice;
use crate::disk::Health;
use crate::host::Host;
use crate::net::Weather;
use crate::operator;
use crate::raft::Request;
use crate::runtime::{sleep, true_now};
use crate::world::{World, drift};

const MS: u64 = 1_000_000;

/// What can be done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    PowerOff,
    Freeze,
    FreezeLoop,
    FreezeBeats,
    Stop,
    Split,
    Isolate,
    Deaf,
    Mute,
    CutOne,
    Storm,
    Clock,
    DiskStall,
    DiskBroken,
    DiskFull,
    SlowDatapath,
    Reload,
    Unplug,
    Drain,
    Handover,
    Join,
    Leave,
    Squat,
    Restrict,
    Weigh,
    Rebalance,
    Blind,
}

const FAULTS: [Fault; 28] = [
    Fault::Kill,
    Fault::PowerOff,
    Fault::Freeze,
    Fault::FreezeLoop,
    Fault::FreezeBeats,
    Fault::Stop,
    Fault::Split,
    Fault::Isolate,
    Fault::Deaf,
    Fault::Mute,
    Fault::CutOne,
    Fault::Storm,
    Fault::Clock,
    Fault::DiskStall,
    Fault::DiskBroken,
    Fault::DiskFull,
    Fault::SlowDatapath,
    Fault::Reload,
    Fault::Unplug,
    Fault::Drain,
    Fault::Handover,
    Fault::Join,
    Fault::Leave,
    Fault::Squat,
    Fault::Restrict,
    Fault::Weigh,
    Fault::Rebalance,
    Fault::Blind,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::PowerOff => "power off",
            Self::Freeze => "freeze the daemon",
            Self::FreezeLoop => "starve the loop",
            Self::FreezeBeats => "starve the beats",
            Self::Stop => "stop",
            Self::Split => "partition",
            Self::Isolate => "isolate",
            Self::Deaf => "hears nobody",
            Self::Mute => "reaches nobody",
            Self::CutOne => "cut one direction",
            Self::Storm => "bad weather",
            Self::Clock => "other clock rates",
            Self::DiskStall => "disk stalls",
            Self::DiskBroken => "disk: I/O error",
            Self::DiskFull => "disk: no space",
            Self::SlowDatapath => "the datapath is slow",
            Self::Reload => "reload",
            Self::Unplug => "interface down",
            Self::Drain => "drain",
            Self::Handover => "hand the lead over",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Squat => "a host outside has addresses",
            Self::Restrict => "a policy",
            Self::Weigh => "another weight",
            Self::Rebalance => "rebalance",
            Self::Blind => "sees no backends",
        })
    }
}

/// Breaks and heals, round after round. Ends with the simulation.
pub(crate) async fn break_for_ever(world: Arc<World>) {
    let mut dice = Dice::new(world.plan.seed, 5);
    loop {
        sleep(Duration::from_millis(dice.between(500, 5_000))).await;
        if world.plan.aim.is_some() || dice.one_in(3) {
            aims::strike(&world, &mut dice).await;
        }
        let strikes = match world.plan.aim {
            Some(_) => 0,
            None => dice.between(1, 5),
        };
        for _ in 0..strikes {
            strike(&world, &mut dice).await;
            // Often before the last one has shown its effect.
            let longest = *dice.pick(&[20, 200, 400, 3_000, 8_000]).unwrap_or(&400);
            sleep(Duration::from_millis(dice.between(0, longest))).await;
        }
        heal(&world).await;
        crate::recovery::demand(&world).await;
    }
}

async fn strike(world: &Arc<World>, dice: &mut Dice) {
    let hosts = world.hosts();
    let members: Vec<_> = hosts
        .iter()
        .filter(|host| host.identity().is_some())
        .cloned()
        .collect();
    let Some(fault) = dice.pick(&FAULTS).copied() else {
        return;
    };
    // Half of the time whoever leads: that is where it hurts.
    let leader = members.iter().find(|host| {
        host.process()
            .is_some_and(|process| process.leader() == Some(process.me()))
    });
    let victim = match leader {
        Some(leader) if dice.one_in(3) => Some(leader.clone()),
        _ => dice.pick(&members).cloned(),
    };
    let Some(host) = victim else { return };
    world.say(format_args!("--- {}: {fault}", host.id));
    match fault {
        Fault::Kill => world.kill(&host),
        Fault::PowerOff => world.power_off(&host),
        Fault::Freeze | Fault::FreezeLoop | Fault::FreezeBeats => freeze(world, dice, &host, fault),
        Fault::Stop => {
            if let Some(process) = host.process() {
                process.stop();
            }
        }
        Fault::Split => split(world, dice, &hosts),
        Fault::Isolate | Fault::Deaf | Fault::Mute => {
            for other in hosts.iter().filter(|other| other.id != host.id) {
                if fault != Fault::Deaf {
                    world.net.set_cut(host.id, other.id, true);
                }
                if fault != Fault::Mute {
                    world.net.set_cut(other.id, host.id, true);
                }
            }
        }
        Fault::CutOne => {
            for _ in 0..dice.between(1, 4) {
                if let Some(other) = dice.pick(&hosts) {
                    world.net.set_cut(host.id, other.id, true);
                }
            }
        }
        Fault::Storm => world.net.set_weather(Weather {
            loss: dice.below(300_000),
            twice: dice.below(100_000),
            late: dice.below(300_000),
            late_by: dice.below(200) * MS,
        }),
        Fault::Clock => hosts
            .iter()
            .for_each(|host| host.clock.set_rate(drift(dice))),
        Fault::DiskStall => {
            let until = true_now() + dice.between(50, 6_000) * MS;
            host.disk.set_health(Health::Stalled(until));
        }
        Fault::DiskBroken => host.disk.set_health(Health::Broken),
        Fault::DiskFull => host.disk.set_health(Health::Full),
        Fault::SlowDatapath => {
            let until = true_now() + dice.between(10, 1_500) * MS;
            host.kernel.stall(until);
        }
        Fault::Reload => {
            if let Some(process) = host.process() {
                process.reload();
            }
        }
        Fault::Unplug => host.carrier.store(false, Ordering::Relaxed),
        Fault::Drain => drop(drain(world, &host, true).await),
        Fault::Handover => {
            if let Some(process) = host.process() {
                let work = process.clone();
                crate::runtime::spawn_in(&process.daemon, async move {
                    drop(work.answer(work.me(), Request::Handover).await);
                });
            }
        }
        Fault::Join => {
            if let Some(host) = hosts
                .iter()
                .find(|host| host.identity().is_none() && host.process().is_none())
            {
                let role = if dice.one_in(3) {
                    Role::Agent
                } else {
                    Role::Voter
                };
                let joined = cluster::join(world, host, role).await;
                world.say(format_args!("--- {} joins: {joined:?}", host.id));
            }
        }
        Fault::Leave => leave(world, &host).await,
        Fault::Squat => world.outsider.sits_on(dice.below(4)),
        Fault::Restrict => operator::restrict(world, dice).await,
        Fault::Weigh => {
            if let Ok(node) = host.name() {
                operator::weigh(world, dice, node).await;
            }
        }
        Fault::Rebalance => operator::rebalance(world).await,
        Fault::Blind => {
            if let Some(identity) = host.identity() {
                operator::blind(world, dice, identity.node).await;
            }
        }
    }
}

fn freeze(world: &Arc<World>, dice: &mut Dice, host: &Host, fault: Fault) {
    let Some(process) = host.process() else {
        return;
    };
    let longest = *dice.pick(&[30, 300, 1_000, 6_000]).unwrap_or(&300);
    let span = dice.between(1, longest) * MS;
    if fault != Fault::FreezeBeats {
        process.daemon.freeze();
    }
    if fault != Fault::FreezeLoop {
        process.beating.freeze();
    }
    let thaw = move || {
        process.daemon.thaw();
        process.beating.thaw();
    };
    world.net.after(span, Box::new(thaw));
}

fn split(world: &World, dice: &mut Dice, hosts: &[Arc<Host>]) {
    let sides: Vec<bool> = hosts.iter().map(|_| dice.one_in(2)).collect();
    let one_way = dice.one_in(3);
    for (a, left) in hosts.iter().zip(&sides) {
        for (b, right) in hosts.iter().zip(&sides) {
            if left != right && (*left || !one_way) {
                world.net.set_cut(a.id, b.id, true);
            }
        }
    }
}

async fn drain(world: &World, host: &Host, drained: bool) -> Result<(), String> {
    let processes = world.processes();
    let through = world
        .dice(|dice| dice.pick(&processes).cloned())
        .ok_or("no node runs")?;
    let node = host.name()?;
    let outcome = propose(&through, Command::SetDrained { node, drained }).await;
    outcome.map(drop).map_err(|_| "no leader answered".into())
}

/// The operator stops a node and takes it out of the cluster; in the end it joins anew, or stays away.
async fn leave(world: &Arc<World>, host: &Arc<Host>) {
    let voters = world
        .judge
        .look(|state| state.voters().map_or(0, |(_, sets)| sets.voters().len()));
    let role = host.identity().map(|identity| identity.role);
    if voters <= 3 && role.is_some_and(Role::votes) {
        return;
    }
    host.wanted.store(false, Ordering::Relaxed);
    if let Some(process) = host.process() {
        process.stop();
    }
    for _ in 0..40 {
        sleep(Duration::from_millis(200)).await;
        if host.process().is_none() {
            break;
        }
    }
    // Until its lease is over it is refused; an operator tries again.
    for _ in 0..10 {
        match cluster::remove(world, host).await {
            Ok(()) => return world.say(format_args!("--- {} has left", host.id)),
            Err(why) => world.say(format_args!("--- {} is not removed: {why}", host.id)),
        }
        sleep(Duration::from_millis(500)).await;
    }
    host.wanted.store(true, Ordering::Relaxed);
}

/// Everything works again. What is down is started.
pub(crate) async fn heal(world: &Arc<World>) {
    world.say(format_args!("--- all is healed"));
    world.net.heal();
    world.outsider.goes();
    for host in world.hosts() {
        host.disk.set_health(Health::Good);
        host.kernel.stall(0);
        host.carrier.store(true, Ordering::Relaxed);
        if let Some(process) = host.process() {
            process.daemon.thaw();
            process.beating.thaw();
        }
        if host.identity().is_some() {
            host.wanted.store(true, Ordering::Relaxed);
        }
        world.power_on(&host);
        world.start(&host);
    }
}
