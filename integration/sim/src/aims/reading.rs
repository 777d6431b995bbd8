//! A node starts anew within its lease, and may hear first of a voter that was left behind: by that one's log it still
//! holds what it has given away.

use std::sync::Arc;

use vipd_core::command::Command;

use super::stage::{Actor, Stage};

/// How often the node starts: which voter it follows is chance.
const STARTS: usize = 5;

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let leader = stage.leader()?;
    let node = stage.holder(&leader, true)?;
    let size = stage.voters(&[]).len();
    let others = stage.voters(&[&leader]);
    let (left, rest) = others.split_at(size.saturating_sub(1) / 2);
    let known: Vec<&Actor> = rest.iter().chain([&leader]).collect();
    for behind in left {
        for voter in &known {
            stage.cut(behind, voter, true);
        }
    }
    let name = node.host.name().ok()?;
    let drain = Command::SetDrained {
        node: name,
        drained: true,
    };
    stage.order(&leader, drain).await?;
    // If it follows one that was left behind, it goes to another once it notices.
    let empty = || stage.look(|state| state.held_by(node.node()).next().is_none());
    stage.until(4_000, empty).await?;
    for _ in 0..STARTS {
        let life = node.host.process()?;
        life.reload();
        let host = node.host.clone();
        let next = || {
            let now = host.process();
            now.is_some_and(|now| !Arc::ptr_eq(&now, &life))
        };
        stage.until(3_000, next).await?;
        stage.pause(200, 500).await;
    }
    Some(())
}
