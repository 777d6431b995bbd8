//! A leader is cut off with entries that are never committed, and later sent a snapshot that goes past them, while an agent follows
//! it that knows nothing later than what came before them.

use vipd_core::command::{Command, Expect};
use vipd_core::node::Weight;

use super::stage::{Actor, Stage};

/// Entries that are never committed: few, so that no other entry is compared with them.
const TAIL: u64 = 6;

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let every = stage.world.plan.snapshot_every;
    let leader = stage.leader()?;
    let is_agent = |it: &Actor| !it.process.role().votes();
    let agent = stage.actors().into_iter().find(is_agent)?;
    let others = stage.voters(&[&leader]);
    for voter in &others {
        stage.cut(&leader, voter, true);
        stage.cut(&agent, voter, true);
    }
    for n in 0..TAIL {
        stage.ask(&leader, entry(&agent, n)?);
    }
    let leads = |it: &&Actor| it.process.leader() == Some(it.node());
    stage
        .until(4_000, || others.iter().any(|it| leads(&it)))
        .await?;
    let next = others.iter().find(leads)?;
    // The log is purged up to some entries before a snapshot.
    for n in 0..2 * every + TAIL {
        stage.order(next, entry(&agent, TAIL + n)?).await?;
    }
    for voter in &others {
        stage.cut(&leader, voter, false);
    }
    stage.pause(1_500, 3_000).await;
    Some(())
}

/// One that changes next to nothing, and is like no other.
fn entry(agent: &Actor, n: u64) -> Option<Command> {
    let weight = u8::try_from(1 + n % 100).ok()?;
    Some(Command::SetNode {
        node: agent.host.name().ok()?,
        weight: Some(Weight::new(weight).ok()?),
        labels: [].into(),
        drained: None,
        expect: Expect::Any,
    })
}
