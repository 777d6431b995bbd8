//! Lets openraft's clock stand still while nothing needs it.
//!
//! Its tick, 65 a second in the profile `lan`, does two things: a leader's heartbeats, of which one tick in five sends any,
//! and a follower's own time-out, which never strikes while a leader is heard. So the leader's heartbeats come from
//! here, and a voter has its ticks only while it hears no leader. What it then does, and when, stays openraft's.
//!
//! A voter that hears its leader does not wake for this at all: each heartbeat puts the end of the wait off.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::handle::{Core, Voter};

/// A leader that is not heard for so many heartbeats may be gone. openraft's own time-out is longer: the lease that a
/// follower grants, of two heartbeats, and an election time-out of more than one.
const QUIET: u32 = 2;

/// What a voter needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// To send heartbeats: it leads.
    Heartbeat,
    /// Nothing: it is led.
    Nothing,
    /// Its time-out.
    Ticks,
}

fn need(leader: Option<u64>, me: u64, heard: Option<Duration>, heartbeat: Duration) -> Need {
    match leader {
        Some(leader) if leader == me => Need::Heartbeat,
        Some(_) if heard.is_some_and(|ago| ago < heartbeat * QUIET) => Need::Nothing,
        Some(_) | None => Need::Ticks,
    }
}

/// Runs until the node is shut down.
pub(super) async fn keep(core: Arc<Core>) {
    let Some(voter) = &core.voter else {
        return;
    };
    let heartbeat = core.settings.heartbeat;
    let mut timer = interval(heartbeat);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut led, mut heard) = (core.leader.subscribe(), core.heard.subscribe());
    let mut ticking = true;
    loop {
        // Before the look, so that what changes after it ends the wait.
        led.mark_unchanged();
        let last = *heard.borrow_and_update();
        let need = need(
            leader(voter),
            core.identity.node.0,
            last.map(|at| at.elapsed()),
            heartbeat,
        );
        let tick = need == Need::Ticks;
        if tick != ticking {
            ticking = tick;
            voter.raft.runtime_config().tick(tick);
        }
        if need == Need::Heartbeat && voter.raft.trigger().heartbeat().await.is_err() {
            // Raft has ended, and whoever watches it says why.
            return;
        }
        let silent = last.map(|at| Instant::from_std(at) + heartbeat * QUIET);
        tokio::select! {
            biased;
            Ok(()) = led.changed() => {}
            Ok(()) = heard.changed() => {}
            _ = timer.tick(), if need == Need::Heartbeat => {}
            () = until(silent), if need == Need::Nothing => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn leader(voter: &Voter) -> Option<u64> {
    voter.raft.metrics().borrow_watched().current_leader
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(75);

    fn at(leader: Option<u64>, heard_ms: Option<u64>) -> Need {
        need(leader, 1, heard_ms.map(Duration::from_millis), HEARTBEAT)
    }

    #[test]
    fn a_leader_sends_heartbeats_whatever_it_has_heard_before() {
        assert_eq!(at(Some(1), None), Need::Heartbeat);
        assert_eq!(at(Some(1), Some(10_000)), Need::Heartbeat);
    }

    #[test]
    fn a_voter_that_hears_its_leader_needs_no_tick() {
        assert_eq!(at(Some(2), Some(0)), Need::Nothing);
        assert_eq!(at(Some(2), Some(149)), Need::Nothing);
    }

    #[test]
    fn a_voter_without_a_leader_or_with_a_silent_one_ticks() {
        assert_eq!(at(Some(2), Some(150)), Need::Ticks);
        assert_eq!(at(Some(2), None), Need::Ticks);
        assert_eq!(at(None, Some(0)), Need::Ticks);
    }
}
