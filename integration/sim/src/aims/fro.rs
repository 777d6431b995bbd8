//! An address goes to a node, back, and to it again, over and over, sooner than all has arrived that was handed to that node before.

use vipd_core::command::Command;

use super::stage::{Actor, Stage};

/// How often it goes there.
const TIMES: usize = 12;

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let leader = stage.leader()?;
    let home = stage.holder(&leader, false)?;
    let (_, vip) = stage.announces(&home)?;
    let at = |stage: &Stage<'_>, node: &Actor| {
        stage.look(|state| {
            let vip = state.vips().get(&vip);
            let address = vip.and_then(|vip| vip.addresses.first());
            let of = address.and_then(|address| state.allocations().get(address));
            of.is_some_and(|of| of.holder == Some(node.node()) && of.vacating.is_none())
        })
    };
    let others = stage.actors().into_iter();
    let others: Vec<Actor> = others.filter(|it| it.host.id != home.host.id).collect();
    let mut next = None;
    for other in &others {
        let to = other.host.name().ok()?;
        let name = vip.clone();
        if stage
            .order(&leader, Command::MoveVip { name, to })
            .await
            .is_some()
        {
            next = Some(other);
            break;
        }
    }
    let next = next?;
    for turn in 0..2 * TIMES {
        let (from, to) = if turn % 2 == 0 {
            (next, &home)
        } else {
            (&home, next)
        };
        stage.until(1_000, || at(stage, from)).await?;
        stage.pause(0, 60).await;
        let (name, to) = (vip.clone(), to.host.name().ok()?);
        stage.order(&leader, Command::MoveVip { name, to }).await?;
    }
    Some(())
}
