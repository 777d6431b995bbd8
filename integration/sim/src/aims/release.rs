//! The word that a node has let go is late: meanwhile the next holder was lost, the node was told to keep the address, and
//! opened it again.

use vipd_core::command::Command;

use super::stage::{Actor, Stage};

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let leader = stage.leader()?;
    // An agent, if there is one: it hears of entries from any voter, so that a cut from the leader keeps it informed.
    let holder = stage
        .holder(&leader, true)
        .or_else(|| stage.holder(&leader, false))?;
    let (address, vip) = stage.announces(&holder)?;
    let home = holder.host.name().ok()?;
    let nodes: Vec<Actor> = stage.actors();
    stage.cut_from(&holder, &leader, true);
    let mut asked = None;
    for node in nodes
        .iter()
        .filter(|it| may_be_lost(stage, it, &holder, &leader))
    {
        let name = vip.clone();
        let to = node.host.name().ok()?;
        let move_there = Command::MoveVip { name, to };
        if stage.order(&leader, move_there).await.is_some() {
            asked = Some(node);
            break;
        }
    }
    let next = asked?;
    let silent = || stage.world.judge.announcer(address) != Some(holder.host.id);
    stage.until(400, silent).await?;
    // A move that has begun is finished, unless its destination is lost.
    for other in &nodes {
        stage.cut(next, other, true);
    }
    let lost = || stage.lease(next).is_none();
    stage.until(900, lost).await?;
    let back = Command::MoveVip {
        name: vip,
        to: home,
    };
    stage.order(&leader, back).await?;
    let again = || stage.world.judge.announcer(address) == Some(holder.host.id);
    // It has handed packets on to the one that was lost, and waits until they are old.
    stage.until(3_600, again).await?;
    if stage.dice.one_in(2) {
        // It would shut the address only when it hears of the entry.
        holder.process.daemon.freeze();
    }
    stage.cut_from(&holder, &leader, false);
    stage.pause(400, 1_600).await;
    Some(())
}

/// Whether the holder keeps its lease without this node and without being heard by the leader.
fn may_be_lost(stage: &Stage<'_>, node: &Actor, holder: &Actor, leader: &Actor) -> bool {
    let voters = stage.look(|state| state.voters().map(|(_, sets)| sets.voters()));
    let voters = voters.unwrap_or_default();
    let support = voters
        .iter()
        .filter(|it| **it != node.node() && **it != leader.node());
    let others = [holder, leader].iter().all(|it| it.host.id != node.host.id);
    others && support.count() * 2 > voters.len()
}
