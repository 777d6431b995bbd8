//! A node's loop hangs in its datapath while the node loses its lease, and gets the next one that it had asked for just
//! before. Now it has addresses to shut and a lease to beat for: in this order.

use vipd_core::command::{Command, Expect};
use vipd_core::name::{Labels, Name};
use vipd_core::vip::{Families, VipSpec};

use crate::clients::POOLS;
use crate::runtime::true_now;

use super::stage::Stage;

/// Longer than the scene.
const STALL: u64 = 20_000_000_000;

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let leader = stage.leader()?;
    let node = stage.holder(&leader, false)?;
    let voter = stage.voters(&[&leader, &node]).first()?.clone();
    let epoch = stage.lease(&node)?;
    // One voter fences its lease, and it hears so while it cannot reach the leader: it asks for a new one in vain.
    stage.cut(&node, &voter, true);
    let fenced = || {
        let fences = voter.process.voter.get().map(|it| it.log.fences());
        fences.and_then(|it| it.get(&node.node()).copied()) == Some(epoch)
    };
    stage.until(900, fenced).await?;
    stage.cut_from(&node, &leader, true);
    stage.cut(&node, &voter, false);
    stage.pause(60, 130).await;
    node.host.kernel.stall(true_now() + STALL);
    let command = any_vip(stage.dice.next())?;
    stage.order(&leader, command).await?;
    let busy = || node.host.kernel.is_busy();
    stage.until(700, busy).await?;
    for other in stage.actors() {
        stage.cut(&node, &other, true);
    }
    let lost = || stage.lease(&node).is_none();
    stage.until(900, lost).await?;
    stage.pause(5, 40).await;
    for other in stage.actors() {
        stage.cut(&node, &other, false);
    }
    // What it had asked for comes now.
    let renewed = || {
        let shared = &node.process.shared;
        let known = shared.read().state.node(node.node()).map(|it| it.epoch);
        stage.lease(&node).is_some_and(|now| now > epoch) && known == stage.lease(&node)
    };
    stage.until(2_500, renewed).await?;
    node.host.kernel.stall(0);
    stage.pause(300, 600).await;
    Some(())
}

/// Makes a VIP, which changes the datapath of every node; nobody asks for it later.
fn any_vip(number: u64) -> Option<Command> {
    let name = Name::new(&format!("aimed-{number:x}")).ok()?;
    let spec = VipSpec {
        pool: Name::new(POOLS[0].0).ok(),
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    Some(Command::PutVip {
        name,
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
    })
}
