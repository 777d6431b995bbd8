//! Whoever writes through the API: VIPs made, changed, moved and deleted, all the while.

use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::sync::oneshot;
use vipd_core::command::{Command, Expect, Outcome};
use vipd_core::name::Name;

use crate::daemon::{Lost, Process};
use crate::dice::Dice;
use crate::judge::Write;
use crate::runtime::{NodeRuntime, sleep, spawn_in};
use crate::wishes;
use crate::world::World;

/// A client gives up after this, whatever the node says or does not say.
const PATIENCE: Duration = Duration::from_secs(7);

/// The pools, and which subnet each lies in.
pub(crate) const POOLS: [(&str, u8); 2] = [("front", 77), ("back", 78)];

/// Proposes through `process`, and gives up if that dies or hangs.
///
/// # Errors
/// [`Lost`] without an outcome.
pub(crate) async fn propose(process: &Arc<Process>, command: Command) -> Result<Outcome, Lost> {
    let (answer, answered) = oneshot::channel();
    let work = process.clone();
    spawn_in(&process.daemon, async move {
        drop(answer.send(work.propose(command).await));
    });
    match NodeRuntime::timeout(PATIENCE, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(Lost { unsure: true }),
    }
}

/// One client, the only writer of its VIPs. Ends with the simulation.
pub(crate) async fn write_for_ever(world: Arc<World>, number: usize) {
    let share = world.plan.vips.div_ceil(world.plan.clients.max(1)).max(1);
    let mut client = Client {
        dice: Dice::new(world.plan.seed, 100 + number as u64),
        names: (number * share..(number + 1) * share)
            .map(|n| (n, 0))
            .collect(),
        world,
    };
    for n in 0..share {
        client.put(n).await;
    }
    loop {
        let pause = client.dice.between(30, 900);
        sleep(Duration::from_millis(pause)).await;
        let n = usize::try_from(client.dice.below(share as u64)).unwrap_or(0);
        match client.dice.below(10) {
            0..=4 => client.put(n).await,
            5..=6 => client.delete(n).await,
            _ => client.move_it(n).await,
        }
    }
}

struct Client {
    world: Arc<World>,
    dice: Dice,
    /// Number and generation of each VIP. One about which an answer was lost is not written again: that write may yet be
    /// carried out, after whatever followed.
    names: Vec<(usize, u32)>,
}

impl Client {
    fn name_of(&self, n: usize) -> Option<Name> {
        let (number, generation) = self.names[n];
        Name::new(&format!("vip-{number}-{generation}")).ok()
    }

    /// Some node, as a client's configuration names one.
    fn some_node(&mut self) -> Option<Arc<Process>> {
        self.dice.pick(&self.world.processes()).cloned()
    }

    async fn put(&mut self, n: usize) {
        let (Some(name), Some(node)) = (self.name_of(n), self.some_node()) else {
            return sleep(Duration::from_millis(100)).await;
        };
        let (spec, labels) = wishes::some(&mut self.dice);
        let command = Command::PutVip {
            name: name.clone(),
            labels,
            spec,
            expect: Expect::Any,
        };
        self.world.judge.asks(&name);
        let result = propose(&node, command).await;
        self.settle(n, &name, Write::Put, result);
    }

    async fn delete(&mut self, n: usize) {
        let (Some(name), Some(node)) = (self.name_of(n), self.some_node()) else {
            return;
        };
        let command = Command::DeleteVip {
            name: name.clone(),
            expect: Expect::Any,
        };
        self.world.judge.asks(&name);
        let result = propose(&node, command).await;
        self.settle(n, &name, Write::Delete, result);
    }

    /// Moving a VIP promises nothing about who holds it in the end.
    async fn move_it(&mut self, n: usize) {
        let (Some(name), Some(node)) = (self.name_of(n), self.some_node()) else {
            return;
        };
        let nodes: Vec<Name> = self.world.judge.look(|state| {
            state
                .nodes()
                .values()
                .map(|node| node.name.clone())
                .collect()
        });
        let Some(to) = self.dice.pick(&nodes).cloned() else {
            return;
        };
        drop(propose(&node, Command::MoveVip { name, to }).await);
    }

    fn settle(&mut self, n: usize, name: &Name, write: Write, result: Result<Outcome, Lost>) {
        match result {
            Ok(outcome) => self.world.judge.acknowledged(name, write, &outcome),
            Err(_) => {
                self.world.judge.unanswered(name);
                self.names[n].1 += 1;
            }
        }
    }
}
