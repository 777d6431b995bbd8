//! Making the cluster, joining and removing hosts: what an operator does by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::sync::oneshot;
use vipd_core::block::Block;
use vipd_core::command::{Applied, Command, Expect};
use vipd_core::id::NodeId;
use vipd_core::name::{Labels, Name};
use vipd_core::node::Role;
use vipd_core::pool::PoolSpec;
use vipd_core::time::Millis;

use crate::clients::{POOLS, propose};
use crate::host::{Host, Identity};
use crate::lock;
use crate::runtime::{NodeRuntime, sleep, spawn_in, true_now};
use crate::world::World;

/// How long the set-up may take, in virtual time.
const SETUP: u64 = 60_000_000_000;

/// Makes a cluster of the plan's voters and agents, with its pools.
///
/// # Errors
/// If it does not come to life in a minute of virtual time: nothing is broken yet, so something is wrong.
pub(crate) async fn set_up(world: &Arc<World>) -> Result<(), String> {
    let hosts = world.hosts();
    let first = &hosts[0];
    *lock(&first.joins) += 1;
    *lock(&first.identity) = Some(Identity {
        node: NodeId(1),
        role: Role::Voter,
        hints: Vec::new(),
    });
    world.start(first);
    let bootstrap = Command::Bootstrap {
        cluster: [7; 16],
        name: first.name()?,
        peer: first.peer(),
        beat_key: [0; 32],
    };
    insist(world, bootstrap).await?;
    for (name, net) in POOLS {
        let block =
            Block::parse(&format!("10.{net}.128.0/17")).map_err(|error| format!("{error:?}"))?;
        let spec = PoolSpec {
            blocks: vec![block],
            ..PoolSpec::default()
        };
        let name = Name::new(name).map_err(|error| format!("{error:?}"))?;
        let put = Command::PutPool {
            name,
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
            care: vipd_core::pool::Care::default(),
        };
        insist(world, put).await?;
    }
    for host in hosts
        .iter()
        .skip(1)
        .take(world.plan.voters + world.plan.agents - 1)
    {
        let role = if host.id.0 < world.plan.voters {
            Role::Voter
        } else {
            Role::Agent
        };
        while let Err(why) = join(world, host, role).await {
            if true_now() > SETUP {
                return Err(format!("{} does not join: {why}", host.id));
            }
        }
    }
    let voters = world.plan.voters;
    while world
        .judge
        .look(|state| state.voters().map_or(0, |(_, sets)| sets.voters().len()))
        < voters
    {
        if true_now() > SETUP {
            return Err("the voters did not all get their vote".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn insist(world: &Arc<World>, command: Command) -> Result<(), String> {
    while true_now() < SETUP {
        if let Some(process) = world.processes().first()
            && let Ok(outcome) = propose(process, command.clone()).await
        {
            return outcome.map(drop).map_err(|rejection| rejection.to_string());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err("the cluster did not come to life".into())
}

/// Lets `host` join anew, and starts its daemon.
///
/// # Errors
/// Why it did not; that can be tried again.
pub(crate) async fn join(world: &Arc<World>, host: &Arc<Host>, role: Role) -> Result<(), String> {
    let through = world.dice(|dice| dice.pick(&world_processes(world)).cloned());
    let through = through.ok_or("no node runs")?;
    *lock(&host.joins) += 1;
    host.disk.wipe();
    let token = [u8::try_from(host.id.0).unwrap_or(0); 32];
    let put = Command::PutJoinToken {
        token,
        role,
        expires: Millis(u64::MAX),
        uses: 1,
    };
    let lost = |_| "no leader answered".to_owned();
    propose(&through, put)
        .await
        .map_err(lost)?
        .map_err(|why| why.to_string())?;
    let join = Command::Join {
        token,
        name: host.name()?,
        peer: host.peer(),
        beat_key: [0; 32],
    };
    match propose(&through, join)
        .await
        .map_err(lost)?
        .map_err(|why| why.to_string())?
    {
        Applied::Joined { node, role } => {
            let hints = world.judge.look(|state| {
                let voters = state.nodes().values().filter(|node| node.role.votes());
                voters.map(|node| (node.id, node.peer)).collect()
            });
            *lock(&host.identity) = Some(Identity { node, role, hints });
            host.wanted.store(true, Ordering::Relaxed);
            world.start(host);
            Ok(())
        }
        Applied::Done { .. } | Applied::Created { .. } => {
            Err("the join was answered as something else".into())
        }
    }
}

fn world_processes(world: &World) -> Vec<Arc<crate::daemon::Process>> {
    world.processes()
}

/// Takes the node that `host` is out of the cluster, once it is stopped and its lease is over.
///
/// # Errors
/// Why it is still a member.
pub(crate) async fn remove(world: &Arc<World>, host: &Arc<Host>) -> Result<(), String> {
    let node = host.identity().ok_or("it is no member")?.node;
    let others: Vec<_> = world
        .processes()
        .into_iter()
        .filter(|process| process.me() != node)
        .collect();
    let through = world
        .dice(|dice| dice.pick(&others).cloned())
        .ok_or("no other node runs")?;
    let (answer, answered) = oneshot::channel();
    let work = through.clone();
    spawn_in(&through.daemon, async move {
        drop(answer.send(work.remove(node).await))
    });
    let result = NodeRuntime::timeout(Duration::from_secs(40), answered).await;
    result
        .map_err(|_| "no answer in time")?
        .map_err(|_| "the node asked has died")??;
    *lock(&host.identity) = None;
    Ok(())
}
