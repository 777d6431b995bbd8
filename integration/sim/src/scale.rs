//! What size costs: 7 voters, hundreds of agents, thousands of VIPs, one holder that loses power.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use openraft::AsyncRuntime;
use vipd_core::command::{Command, Expect};
use vipd_core::lease::Profile;
use vipd_core::name::{Labels, Name};
use vipd_core::vip::{Families, VipSpec};

use crate::clients::propose;
use crate::runtime::{NodeRuntime, sleep, spawn, true_now};
use crate::world::World;
use crate::{Mutant, Plan, cluster, panics};

/// The sizes: voters, agents, VIPs.
const SIZES: [(usize, usize, usize); 4] = [
    (3, 0, 100),
    (3, 30, 1_000),
    (7, 100, 3_000),
    (7, 300, 10_000),
];

/// What one size costs.
struct Cost {
    /// Of small writes, in virtual milliseconds: median, longest.
    commit: (f64, f64),
    /// From a holder's power-off until the last of its VIPs is announced elsewhere, in virtual milliseconds, and how
    /// many those were.
    takeover: (f64, usize),
    /// The same for the leader, a holder too.
    leader: (f64, usize),
    /// Real CPU time of the whole cluster, in milliseconds per virtual second at rest.
    cpu: f64,
    /// Peak memory of the whole cluster, in MiB.
    memory: f64,
}

/// Prints the table; whether every size worked.
pub(crate) fn table() -> bool {
    panics::silence();
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "voters",
        "agents",
        "VIPs",
        "commit ms: median (max)",
        "holder off: all served ms (VIPs)",
        "leader off: all served ms (VIPs)",
        "CPU ms per s, all nodes",
        "peak MiB, all nodes",
    ]);
    let mut good = true;
    for (voters, agents, vips) in SIZES {
        println!("    {voters} voters, {agents} agents, {vips} VIPs ...");
        let plan = Plan {
            voters,
            agents,
            spares: 0,
            vips,
            clients: 0,
            timing: Profile::Lan.timing(),
            mixed: false,
            snapshot_every: 1_000,
            compare_every: u64::MAX,
            freeze: false,
            ..Plan::of(1, 60)
        };
        let world = World::new(plan, Mutant::None);
        let mut runtime = NodeRuntime::with_seed(1);
        let cost = runtime.block_on(measure(world.clone()));
        match cost {
            Ok(cost) => {
                table.add_row([
                    voters.to_string(),
                    agents.to_string(),
                    vips.to_string(),
                    format!("{:.1} ({:.1})", cost.commit.0, cost.commit.1),
                    format!("{:.0} ({})", cost.takeover.0, cost.takeover.1),
                    format!("{:.0} ({})", cost.leader.0, cost.leader.1),
                    format!("{:.1}", cost.cpu),
                    format!("{:.0}", cost.memory),
                ]);
            }
            Err(why) => {
                good = false;
                println!("    failed: {why}");
            }
        }
        for violation in world.judge.found() {
            good = false;
            println!("    VIOLATED: {}", violation.0);
        }
        world.end();
        drop(runtime);
        world.net.clear();
    }
    println!("{table}");
    good
}

async fn measure(world: Arc<World>) -> Result<Cost, String> {
    let carrier = world.net.clone();
    spawn(async move { carrier.carry().await });
    let began = Instant::now();
    let say = |what: &str| println!("        {:>6.1} s  {what}", began.elapsed().as_secs_f64());
    cluster::set_up(&world).await?;
    say("all have joined");
    fill(&world).await?;
    say("the VIPs are made");
    settle(&world, 30_000)
        .await
        .ok_or("not all VIPs were ever announced")?;
    say("and announced");
    let commit = commits(&world).await?;
    say(&format!("a small write took {:.1} ms", commit.0));
    let began = cpu_ns();
    sleep(Duration::from_secs(10)).await;
    let cpu = (cpu_ns() - began) / 1e6 / 10.0;
    say(&format!("at rest {cpu:.0} ms of CPU a second"));
    let leader = world
        .processes()
        .iter()
        .find(|node| node.leader() == Some(node.me()))
        .map(|node| node.host.id);
    let leader = leader.ok_or("nobody leads")?;
    let other = if leader.0 == 0 { 1 } else { 0 };
    let takeover = power_off(&world, other).await?;
    say(&format!("a holder lost power: {:.0} ms", takeover.0));
    let leader = power_off(&world, leader.0).await?;
    say(&format!("the leader lost power: {:.0} ms", leader.0));
    Ok(Cost {
        commit,
        takeover,
        leader,
        cpu,
        memory: peak_mib(),
    })
}

fn vip(n: usize) -> Option<Command> {
    let spec = VipSpec {
        families: Families::Ipv4,
        pool: Name::new(if n.is_multiple_of(4) { "back" } else { "front" }).ok(),
        ..VipSpec::default()
    };
    Some(Command::PutVip {
        name: Name::new(&format!("vip-{n}")).ok()?,
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
    })
}

/// VIPs made at once, as by one `vipctl apply -f`: every node looks at all of its addresses after each batch of entries.
const AT_ONCE: usize = 1_000;
/// Small writes whose commit is timed.
const COMMITS: usize = 40;

/// Makes the VIPs.
async fn fill(world: &Arc<World>) -> Result<(), String> {
    let numbers: Vec<usize> = (0..world.plan.vips).collect();
    for chunk in numbers.chunks(AT_ONCE) {
        let writes = chunk.iter().filter_map(|n| vip(*n)).map(|command| async {
            let node = world.processes().first().cloned().ok_or("no node runs")?;
            match propose(&node, command).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(rejection)) => Err(rejection.to_string()),
                Err(_) => Err("a write was lost".into()),
            }
        });
        let done: Result<Vec<()>, String> = futures_util::future::try_join_all(writes).await;
        done?;
    }
    Ok(())
}

/// Waits until every address is announced; how long that took, in milliseconds.
async fn settle(world: &World, patience: u64) -> Option<f64> {
    let began = true_now();
    while true_now() - began < patience * 1_000_000 {
        let dark = world.judge.look(|state| {
            state
                .allocations()
                .keys()
                .any(|address| world.judge.announcer(address).is_none())
        });
        if !dark {
            return Some((true_now() - began) as f64 / 1e6);
        }
        sleep(Duration::from_millis(1)).await;
    }
    None
}

async fn commits(world: &Arc<World>) -> Result<(f64, f64), String> {
    let mut took = Vec::new();
    for n in 0..COMMITS {
        let node = world.processes().first().cloned().ok_or("no node runs")?;
        let command = if n % 2 == 0 {
            Command::DeleteVip {
                name: Name::new("vip-0").map_err(|e| format!("{e:?}"))?,
                expect: Expect::Any,
            }
        } else {
            vip(0).ok_or("no name")?
        };
        let began = true_now();
        let outcome = propose(&node, command)
            .await
            .map_err(|_| "a write was lost")?;
        if n % 2 == 1 {
            outcome.map_err(|rejection| rejection.to_string())?;
        }
        took.push((true_now() - began) as f64 / 1e6);
        sleep(Duration::from_millis(50)).await;
    }
    took.sort_by(f64::total_cmp);
    Ok((took[took.len() / 2], took[took.len() - 1]))
}

async fn power_off(world: &Arc<World>, host: usize) -> Result<(f64, usize), String> {
    let host = world.hosts()[host].clone();
    let held = world.judge.look(|state| {
        let addresses = state.allocations().keys();
        addresses
            .filter(|address| world.judge.announcer(*address) == Some(host.id))
            .count()
    });
    world.power_off(&host);
    let took = settle(world, 20_000).await.ok_or("some VIPs stayed dark")?;
    world.power_on(&host);
    sleep(Duration::from_secs(5)).await;
    Ok((took, held))
}

/// What this thread has computed for, in nanoseconds.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|ns| ns.parse().ok())
        .unwrap_or(0.0)
}

/// The peak memory of this process, as the kernel tells.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
