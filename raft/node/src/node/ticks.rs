//! Lets openraft's clock stand still while nothing needs it.
//!
//! Its tick, 65 a second in the profile `lan`, does two things: a leader's heartbeats, of which one tick in five sends any,
//! and a follower's own time-out, which never strikes while a leader is heard. So the leader's heartbeats come from
//! here, and a voter has its ticks only while it hears no leader. What it then does, and when, stays openraft's.
//!
//! While beats say who leads and who follows ([`crate::beat::Words`]), heartbeats go by them: a follower looks once a
//! heartbeat whether its leader's beats say so. Its Raft, whose clock stands still, need not know; the votes that it would refuse
//! while it hears a leader are refused in its stead ([`Core::waits_for_leader`]). When the beats have fallen silent it is told once, at
//! the next look, that the leader was heard, and from there on all is openraft's.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use vipd_core::id::NodeId;

use super::handle::{Core, Voter};
use crate::beat::{Word, now};
use crate::types::Vote;

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
    // Whose beats were heard that this node's Raft does not know of.
    let mut untold = None;
    loop {
        // Before the look, so that what changes after it ends the wait.
        led.mark_unchanged();
        let led_by = established(voter);
        if let Some((vote, word)) = led_by {
            untold = hear_by_beats(&core, voter, vote, word, untold).await;
        }
        let last = *heard.borrow_and_update();
        let word = led_by.map(|(_, word)| word);
        let need = need(
            word.map(|word| word.leader.0),
            core.identity.node.0,
            last.map(|at| at.elapsed()),
            heartbeat,
        );
        let tick = need == Need::Ticks;
        if tick != ticking {
            ticking = tick;
            voter.raft.runtime_config().tick(tick);
        }
        let quiet = voter.quiet.load(Ordering::Relaxed);
        let say = match (need, word) {
            (Need::Heartbeat, Some(word)) if !quiet && core.words.is_leading(now()) => word,
            (Need::Nothing, Some(word)) => word,
            (Need::Heartbeat | Need::Nothing | Need::Ticks, _) => Word::default(),
        };
        core.words.say(say, now());
        if need == Need::Heartbeat && voter.raft.trigger().heartbeat().await.is_err() {
            // Raft has ended, and whoever watches it says why.
            return;
        }
        let silent = last.map(|at| Instant::from_std(at) + heartbeat * QUIET);
        tokio::select! {
            biased;
            Ok(()) = led.changed() => {}
            Ok(()) = heard.changed() => {}
            _ = timer.tick() => {}
            () = until(silent), if need == Need::Nothing => {}
        }
    }
}

/// Notes what this follower's leader says by its beats; when they no longer do, tells its Raft that they did, as the leader's
/// heartbeat would. That has no entries and rests on none, so that it renews the leader's time and does nothing else. `Some`: the
/// leader of whom Raft does not know yet what was heard.
async fn hear_by_beats(
    core: &Core,
    voter: &Voter,
    vote: Vote,
    word: Word,
    untold: Option<Vote>,
) -> Option<Vote> {
    if word.leader == core.identity.node {
        return None;
    }
    if core.words.believes(word, now()) {
        core.hear_by_beat();
        return Some(vote);
    }
    if untold != Some(vote) || !core.heeds_leader() {
        return None;
    }
    let heartbeat = AppendEntriesRequest {
        vote,
        prev_log_id: None,
        leader_commit: None,
        entries: Vec::new(),
    };
    // Raft answers once its log is on the disk, which may take longer.
    drop(
        timeout(
            core.settings.heartbeat,
            voter.raft.append_entries(heartbeat),
        )
        .await,
    );
    None
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Core {
    /// See [`super::RaftNode::give_up`].
    ///
    /// openraft has one way to end the time for which a follower refuses votes: the message by which a leader hands the lead
    /// to another. To a follower that is not the one it says nothing else. But it ends it for the whole term, so from
    /// then on this node keeps that time itself: [`Core::waits_for_leader`].
    pub(super) fn give_up(self: &Arc<Self>, leader: NodeId) {
        let Some((vote, word)) = self.voter.as_ref().and_then(established) else {
            return;
        };
        if leader == self.identity.node || word.leader != leader {
            return;
        }
        self.words.unspoken();
        self.let_go();
        let core = self.clone();
        self.spawn(async move {
            let handing = TransferLeaderRequest::new(vote, leader.0, None);
            if let Some(voter) = &core.voter
                && let Err(error) = voter.raft.handle_transfer_leader(handing).await
            {
                tracing::debug!(%error, "Raft does not give its leader up");
            }
        });
    }

    /// Its leader hands the lead to another: votes are refused for its sake no longer, until it is heard again.
    pub(super) fn let_go(&self) {
        *lock(&self.given_up) = Some(Instant::now().into_std());
    }

    /// Whether this node follows a leader that it has heard lately, so that votes are refused.
    pub(super) fn waits_for_leader(&self) -> bool {
        let led = self.voter.as_ref().and_then(established);
        let led = led.is_some_and(|(_, word)| word.leader != self.identity.node);
        led && self.heeds_leader()
    }

    /// Whether a leader was heard within an election time-out, and since this node last gave one up.
    fn heeds_leader(&self) -> bool {
        let (given_up, heard) = (*lock(&self.given_up), *self.heard.borrow());
        heard.is_some_and(|heard| {
            heard.elapsed() < self.settings.election_max && given_up.is_none_or(|up| heard > up)
        })
    }
}

/// A poisoned lock holds a whole time all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The vote of the leader that this node follows or is, as far as its Raft knows, and what its beats may say of it.
fn established(voter: &Voter) -> Option<(Vote, Word)> {
    let metrics = voter.raft.metrics();
    let now = metrics.borrow_watched();
    let word = Word::of(&now.vote, now.local_committed.map(|id| id.index));
    (now.vote.committed && now.current_leader == Some(word.leader.0)).then_some((now.vote, word))
}

#[cfg(test)]
mod tests;
