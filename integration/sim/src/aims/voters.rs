//! The voters change twice while a holder's beats starve, in the middle of a lease that was stretched for a reload. Its
//! deadline was granted by the first voters; the last ones, who can replace it alone, do not know of it.

use std::sync::Arc;

use vipd_core::node::Role;

use crate::cluster;
use crate::host::Host;
use crate::runtime::true_now;

use super::stage::{Actor, Stage};

/// A voter that starts certifies nothing for about two seconds.
const GROWN: u64 = 2_500;

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let leader = stage.leader()?;
    let size = stage.voters(&[]).len();
    let spares: Vec<Arc<Host>> = stage
        .world
        .hosts()
        .into_iter()
        .filter(|host| host.identity().is_none() && host.process().is_none())
        .take(2)
        .collect();
    if spares.len() < 2 || size + 2 > 7 {
        return None;
    }
    let mut fresh = Vec::new();
    for host in spares {
        cluster::join(stage.world, &host, Role::Voter).await.ok()?;
        let process = host.process()?;
        let actor = Actor { host, process };
        // It has begun, and is kept from its vote until it may use it.
        for other in stage.actors() {
            stage.cut(&actor, &other, true);
        }
        fresh.push(actor);
    }
    stage.pause(GROWN, GROWN).await;
    let leader = stage.leader().filter(|it| it.host.id == leader.host.id)?;
    let holder = stage.holder(&leader, false)?;
    // Just a majority of the first voters goes on hearing it.
    let others = stage.voters(&[&leader, &holder]);
    let hearing = size / 2 + 1 - 1 - usize::from(holder.process.role().votes());
    for voter in others.iter().skip(hearing) {
        stage.cut(voter, &holder, true);
    }
    let epoch = stage.lease(&holder)?;
    stage.promises_over().await;
    holder.process.stretch();
    let stretched = || holder.process.deadline() > holder.host.clock.now() + 1_900_000_000;
    stage.until(500, stretched).await?;
    holder.process.beating.freeze();
    let starved = true_now();
    for actor in &fresh {
        let all = stage.actors();
        for other in all.iter().filter(|it| it.host.id != holder.host.id) {
            stage.cut(actor, other, false);
        }
    }
    let voted = || {
        stage.look(|state| {
            let sets = state.voters().map(|(_, sets)| sets);
            sets.is_some_and(|sets| sets.sets.len() == 1 && sets.voters().len() == size + 2)
        })
    };
    stage.until(1_700, voted).await?;
    let took = (true_now() - starved) / 1_000_000;
    stage.world.say(format_args!(
        "--- two more voters, {took} ms after the beats starved"
    ));
    // It hears that there are new voters, but not what they decide.
    let newest = || stage.look(|state| state.voters().map_or(0, |(index, _)| index));
    let heard = || {
        holder
            .process
            .shared
            .read()
            .state
            .voters()
            .is_some_and(|(index, _)| index == newest())
    };
    stage.until(300, heard).await?;
    stage.pause(3, 30).await;
    holder.process.daemon.freeze();
    let gone = stage.until(1_200, || stage.lease(&holder) != Some(epoch));
    let _with_the_rule = gone.await;
    stage.pause(20, 100).await;
    Some(())
}
