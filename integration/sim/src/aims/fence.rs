//! A voter dies between deciding on a fence and having it on its disk. If it had certified meanwhile, and others had taken
//! over by that, then its next life would support the lease once more.

use crate::disk::Health;
use crate::runtime::true_now;

use super::stage::Stage;

/// Longer than the scene.
const STALL: u64 = 20_000_000_000;

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    let leader = stage.leader()?;
    let holder = stage.holder(&leader, false)?;
    let size = stage.voters(&[]).len();
    let others = stage.voters(&[&leader, &holder]);
    // Just a majority goes deaf to the holder; one of it, the forgetful, loses its fence. The rest go on supporting it.
    let mut deaf = vec![leader.clone()];
    deaf.extend(others.iter().take(size / 2).cloned());
    let forgetful = deaf.get(1)?.clone();
    let stalled = Health::Stalled(true_now() + STALL);
    forgetful.host.disk.set_health(stalled);
    holder.process.daemon.freeze();
    for voter in &deaf {
        stage.cut(voter, &holder, true);
    }
    // With the rule nothing comes of it, as the forgetful voter's disk never answers.
    let lease = stage.lease(&holder)?;
    let gone = stage.until(900, || stage.lease(&holder) != Some(lease));
    let _with_the_rule = gone.await;
    stage.pause(1, 60).await;
    stage.world.kill(&forgetful.host);
    forgetful.host.disk.set_health(Health::Good);
    let host = forgetful.host.clone();
    let back = || host.process().is_some_and(|it| it.voter.get().is_some());
    stage.until(3_000, back).await?;
    stage.cut(&forgetful, &holder, false);
    stage.pause(100, 500).await;
    Some(())
}
