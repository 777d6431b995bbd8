//! Heartbeats that travel with beats, and a clock of Raft that stands still while a leader is heard: what `vipd-raft` does in its
//! `ticks.rs`, but that a leader's heartbeats come from openraft's ticks here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteResponse};
use vipd_core::id::NodeId;
use vipd_core::time::Instant;
use vipd_raft::parts::{Vote, Word};

use super::{Process, Voter};
use crate::lock;
use crate::raft::Types;
use crate::runtime::{Local, NodeRuntime, sleep, spawn};

/// Runs until the process ends.
pub(super) async fn keep(process: Arc<Process>, heartbeat: Duration) {
    let Some(voter) = process.voter.get() else {
        return;
    };
    let (mut ticking, mut untold) = (true, None);
    loop {
        let led_by = established(voter);
        if let Some((vote, word)) = led_by {
            untold = hear_by_beats(&process, voter, heartbeat, (vote, word), untold).await;
        }
        let last = lock(&process.heard).map(|at| at.elapsed());
        let silent = last.and_then(|ago| (heartbeat * 2).checked_sub(ago));
        let heard = silent.is_some_and(|left| left > Duration::ZERO);
        let follows = led_by.is_some_and(|(_, word)| word.leader != process.me());
        let tick = !(follows && heard);
        if tick != ticking {
            ticking = tick;
            voter.raft.runtime_config().tick(tick);
        }
        let quiet = voter.quiet.load(Ordering::Relaxed);
        let word = led_by.map(|(_, word)| word).filter(|word| {
            if word.leader == process.me() {
                !quiet && process.words.is_leading(now(&process))
            } else {
                heard
            }
        });
        process.words.say(word.unwrap_or_default(), now(&process));
        // A leader that falls silent is noticed when that is so, not at the next look.
        let left = silent.filter(|_| heard).unwrap_or(heartbeat);
        sleep(left.min(heartbeat)).await;
    }
}

fn now(process: &Process) -> Instant {
    Instant(process.host.clock.now())
}

async fn hear_by_beats(
    process: &Process,
    voter: &Voter,
    heartbeat: Duration,
    (vote, word): (Vote, Word),
    untold: Option<Vote>,
) -> Option<Vote> {
    if word.leader == process.me() {
        return None;
    }
    if process.words.believes(word, now(process)) {
        process.hear_by_beat();
        return Some(vote);
    }
    if untold != Some(vote) || !heeds_leader(process) {
        return None;
    }
    let told = voter.raft.append_entries(AppendEntriesRequest {
        vote,
        prev_log_id: None,
        leader_commit: None,
        entries: Vec::new(),
    });
    drop(NodeRuntime::timeout(heartbeat, told).await);
    None
}

/// This voter has fenced `leader`: if that one leads, its Raft waits for it no longer.
pub(super) fn give_up(process: &Arc<Process>, leader: NodeId) {
    let led_by = process.voter.get().and_then(established);
    let Some((vote, _)) = led_by.filter(|(_, word)| word.leader == leader) else {
        return;
    };
    if leader == process.me() {
        return;
    }
    process.words.unspoken();
    let_go(process);
    let process = process.clone();
    spawn(async move {
        if let Some(voter) = process.voter.get() {
            let handing = TransferLeaderRequest::new(vote, leader.0, None);
            drop(voter.raft.handle_transfer_leader(handing).await);
        }
    });
}

/// Its leader hands the lead to another.
pub(super) fn let_go(process: &Process) {
    *lock(&process.given_up) = Some(Local::now());
}

/// Whether this node follows a leader that it has heard lately, so that votes are refused.
pub(super) fn waits_for_leader(process: &Process) -> bool {
    let led = process.voter.get().and_then(established);
    led.is_some_and(|(_, word)| word.leader != process.me()) && heeds_leader(process)
}

/// Whether a leader was heard within an election time-out, and since this node last gave one up.
fn heeds_leader(process: &Process) -> bool {
    let (given_up, heard) = (*lock(&process.given_up), *lock(&process.heard));
    let lease = Duration::from_nanos(process.timing.lease.0);
    heard.is_some_and(|heard| heard.elapsed() < lease && given_up.is_none_or(|up| heard > up))
}

/// No vote: this node hears a leader.
pub(super) fn refusal(voter: &Voter) -> VoteResponse<Types> {
    let metrics = voter.raft.metrics();
    let now = metrics.borrow_watched();
    VoteResponse::new(now.vote, None, false)
}

fn established(voter: &Voter) -> Option<(Vote, Word)> {
    let metrics = voter.raft.metrics();
    let now = metrics.borrow_watched();
    let word = Word::of(&now.vote, now.local_committed.map(|id| id.index));
    (now.vote.committed && now.current_leader == Some(word.leader.0)).then_some((now.vote, word))
}
