//! Heartbeats that travel with beats: what `vipd-raft` does in its `ticks.rs`, but for the ticks, which openraft has here.

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
    loop {
        let led_by = established(voter);
        if let Some((vote, word)) = led_by {
            hear_by_beats(&process, voter, heartbeat, vote, word).await;
        }
        let heard = lock(&process.heard).is_some_and(|at| at.elapsed() < heartbeat * 2);
        let quiet = voter.quiet.load(Ordering::Relaxed);
        let word = led_by.map(|(_, word)| word).filter(|word| {
            if word.leader == process.me() {
                !quiet && process.words.is_leading(now(&process))
            } else {
                heard
            }
        });
        process.words.say(word.unwrap_or_default(), now(&process));
        sleep(heartbeat).await;
    }
}

fn now(process: &Process) -> Instant {
    Instant(process.host.clock.now())
}

async fn hear_by_beats(
    process: &Process,
    voter: &Voter,
    heartbeat: Duration,
    vote: Vote,
    word: Word,
) {
    let told = lock(&process.heard).is_some_and(|at| at.elapsed() < heartbeat / 2);
    if told || word.leader == process.me() || !process.words.believes(word, now(process)) {
        return;
    }
    let told = voter.raft.append_entries(AppendEntriesRequest {
        vote,
        prev_log_id: None,
        leader_commit: None,
        entries: Vec::new(),
    });
    if let Ok(Ok(reply)) = NodeRuntime::timeout(heartbeat, told).await
        && reply.is_success()
    {
        process.hear_by_beat();
    }
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
    *lock(&process.given_up) = Some(Local::now());
    let process = process.clone();
    spawn(async move {
        if let Some(voter) = process.voter.get() {
            let handing = TransferLeaderRequest::new(vote, leader.0, None);
            drop(voter.raft.handle_transfer_leader(handing).await);
        }
    });
}

/// Whether a leader that was given up was heard again, and lately.
pub(super) fn waits_for_leader(process: &Process) -> bool {
    let (given_up, heard) = (*lock(&process.given_up), *lock(&process.heard));
    let again = given_up.zip(heard).is_some_and(|(up, heard)| heard > up);
    let lease = Duration::from_nanos(process.timing.lease.0);
    let lately = heard.is_some_and(|at| at.elapsed() < lease);
    let led = process.voter.get().and_then(established);
    again && lately && led.is_some_and(|(_, word)| word.leader != process.me())
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
