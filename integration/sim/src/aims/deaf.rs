//! The leader hears nobody, and is heard by all. Its heartbeats must not keep the others from electing another leader, who
//! takes over what it held: this scene is about time, and the judge is told if it takes too long.

use super::stage::Stage;

/// Longer than any promise that was made to a node which reloaded.
const RELOADED: (u64, u64) = (2_100, 2_500);

pub(super) async fn play(stage: &mut Stage<'_>) -> Option<()> {
    stage.pause(RELOADED.0, RELOADED.1).await;
    let leader = stage.leader()?;
    let epoch = stage.lease(&leader)?;
    // One whose lease another scene has stretched, for the rest of its life, is replaced later.
    let left = leader
        .process
        .deadline()
        .saturating_sub(leader.host.clock.now());
    if left > leader.process.timing.lease.0 {
        return None;
    }
    let timings = stage.actors().into_iter().map(|it| it.process.timing);
    // Answers to what it sent last renew promises until it is seen to hear nothing; then they run out, then somebody is
    // elected.
    let bound = timings.map(|it| 2 * it.promise().as_millis() + 2 * it.lease.as_millis());
    let bound = bound.max()?;
    for other in stage.actors() {
        stage.cut_from(&other, &leader, true);
    }
    let replaced = || stage.lease(&leader) != Some(epoch);
    let life = || leader.process.is_over();
    let ended = stage.until(bound, || replaced() || life()).await;
    if ended.is_none() {
        let node = leader.node();
        stage.world.judge.accuse_of(format!(
            "n{node}, which leads and hears nobody, was not replaced within {bound} ms"
        ));
    }
    ended
}
