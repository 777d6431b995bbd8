//! The word that a node has let go is late: meanwhile it was told to keep the address, and opened it again.

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
    for node in nodes.iter().filter(|it| it.host.id != holder.host.id) {
        let name = vip.clone();
        let to = node.host.name().ok()?;
        asked = stage
            .order(&leader, Command::MoveVip { name, to })
            .await
            .or(asked);
        if asked.is_some() {
            break;
        }
    }
    asked?;
    let silent = || stage.world.judge.announcer(address) != Some(holder.host.id);
    stage.until(400, silent).await?;
    stage.pause(0, 5).await;
    let back = Command::MoveVip {
        name: vip,
        to: home,
    };
    stage.order(&leader, back).await?;
    let again = || stage.world.judge.announcer(address) == Some(holder.host.id);
    stage.until(400, again).await?;
    if stage.dice.one_in(2) {
        // It would shut the address only when it hears of the entry.
        holder.process.daemon.freeze();
    }
    stage.cut_from(&holder, &leader, false);
    stage.pause(400, 1_600).await;
    Some(())
}
