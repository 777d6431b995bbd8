//! An agent follows one voter's applied entries: both ends, the twin of `vipd_raft`'s.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::AsyncRuntime;
use openraft::async_runtime::Instant as _;
use tokio::sync::Notify;
use vipd_core::id::NodeId;
use vipd_core::steward::VoteMark;
use vipd_raft::parts::{Entry, LogId, Pace, SnapshotMeta};

use super::Process;
use crate::host::host_at;
use crate::lock;
use crate::mutant::Mutant;
use crate::net::HostId;
use crate::runtime::{Local, NodeRuntime, sleep, spawn_in, true_now};
use crate::world::World;

/// The most entries in one frame.
const BATCH: usize = 256;
/// The voter's first word comes at once.
const FIRST: Duration = Duration::from_millis(300);
/// The frame after it may be a large snapshot.
const SNAPSHOT: Duration = Duration::from_secs(5);
/// A voter that has no majority this long is left for another.
const ALONE: Duration = Duration::from_millis(1000);
/// The pause between two voters that do not answer.
const PAUSE: Duration = Duration::from_millis(50);
/// TCP sends a lost segment again after this long.
const RETRANSMIT: u64 = 200_000_000;

/// One frame.
pub(crate) enum Feed {
    /// Start over from here.
    Snapshot(Box<SnapshotMeta>, Bytes),
    /// Apply these next.
    Entries(Vec<Entry>),
    /// Still here; who leads, and whether it has a majority.
    Alive(Option<NodeId>, bool),
}

/// A TCP stream from a voter to an agent: in order; what is lost is sent again, after ever longer pauses.
pub(crate) struct Pipe {
    from: HostId,
    to: HostId,
    unsent: Mutex<Unsent>,
    frames: Mutex<VecDeque<Feed>>,
    bell: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Unsent {
    frames: VecDeque<Feed>,
    /// When the last frame under way arrives, in true time.
    last: u64,
    /// How many times the first frame was lost; a timer for it runs if it was.
    lost: u32,
}

impl Pipe {
    fn send(self: &Arc<Self>, world: &Arc<World>, feed: Feed) {
        let waiting = {
            let mut unsent = lock(&self.unsent);
            unsent.frames.push_back(feed);
            unsent.lost > 0
        };
        if !waiting {
            self.flush(world);
        }
    }

    fn flush(self: &Arc<Self>, world: &Arc<World>) {
        let mut unsent = lock(&self.unsent);
        while !unsent.frames.is_empty() {
            let Some(span) = world.net.transit(self.from, self.to) else {
                let (pipe, wire) = (self.clone(), world.clone());
                let pause = RETRANSMIT << unsent.lost.min(6);
                unsent.lost += 1;
                return world.net.after(pause, Box::new(move || pipe.flush(&wire)));
            };
            let Some(feed) = unsent.frames.pop_front() else {
                return;
            };
            unsent.lost = 0;
            unsent.last = unsent.last.max(true_now() + span);
            let pipe = self.clone();
            let arrive = move || {
                lock(&pipe.frames).push_back(feed);
                pipe.bell.notify_one();
            };
            world.net.after(unsent.last - true_now(), Box::new(arrive));
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    async fn next(&self) -> Option<Feed> {
        loop {
            if let Some(feed) = lock(&self.frames).pop_front() {
                return Some(feed);
            }
            if self.closed.load(Ordering::Relaxed) {
                return None;
            }
            self.bell.notified().await;
        }
    }
}

/// Closes a stream when the voter's end of it is gone, if the voter's host is still there to say so.
struct Closing(Arc<World>, Arc<Pipe>);

impl Drop for Closing {
    fn drop(&mut self) {
        let Self(world, pipe) = self;
        if world.host(pipe.from).is_powered()
            && let Some(span) = world.net.transit(pipe.from, pipe.to)
        {
            let pipe = pipe.clone();
            world.net.after(span, Box::new(move || pipe.close()));
        }
    }
}

/// The voter's end: feeds `agent` for as long as the stream is open.
async fn feed(
    process: Arc<Process>,
    agent: NodeId,
    (mut at, pace): (Option<LogId>, Pace),
    pipe: Arc<Pipe>,
) {
    let closing = Closing(process.world.clone(), pipe);
    let pipe = &closing.1;
    let news = process.shared.news.listen();
    process.led.wakes(&news);
    let Some(voter) = process.voter.get() else {
        return;
    };
    let alive = |leads| Feed::Alive(leads, process.quorum_ok());
    pipe.send(&process.world, alive(process.leader()));
    let mut said: Option<(Local, Option<NodeId>)> = None;
    while !pipe.closed.load(Ordering::Relaxed) && !process.was_removed(agent) {
        let upto = process.shared.read().applied;
        if at > upto {
            return;
        }
        if let Some(upto) = upto.filter(|upto| at < Some(*upto)) {
            let entries = if process.world.mutant == Mutant::FeedsUncommitted {
                let mut entries = voter.log.following_blindly(at, BATCH);
                entries
                    .iter_mut()
                    .for_each(|all| all.retain(|entry| entry.log_id <= upto));
                entries
            } else {
                voter.log.following(at, upto, BATCH)
            };
            let frame = match entries {
                Some(entries) => {
                    let Some(last) = entries.last() else { return };
                    at = Some(last.log_id);
                    Feed::Entries(entries)
                }
                None => {
                    let replica = process.shared.read();
                    at = replica.applied;
                    Feed::Snapshot(Box::new(replica.meta()), replica.body())
                }
            };
            pipe.send(&process.world, frame);
            continue;
        }
        let leads = process.leader();
        if said.is_none_or(|(when, who)| who != leads || when.elapsed() >= pace.alive()) {
            pipe.send(&process.world, alive(leads));
            said = Some((Local::now(), leads));
        }
        drop(NodeRuntime::timeout(pace.alive(), news.notified()).await);
    }
}

/// The agent's end: follows one voter after the other, for as long as the process runs.
pub(super) async fn follow(process: Arc<Process>) {
    let mut turn = process.world.dice(|dice| dice.below(1024));
    loop {
        let began = Local::now();
        let voters = process.known_voters();
        if !voters.is_empty() {
            let at = usize::try_from(turn % voters.len() as u64).unwrap_or(0);
            follow_one(&process, voters[at]).await;
        }
        process.set_standing(None, VoteMark::default());
        turn += 1;
        if began.elapsed() < PAUSE {
            sleep(PAUSE).await;
        }
    }
}

async fn follow_one(process: &Arc<Process>, voter: NodeId) {
    let Some(peer) = process.address(voter) else {
        return;
    };
    let pipe = open(process, voter, host_at(peer));
    let _hang_up = HangUp(pipe.clone());
    let pace = pace(process);
    let mut patience = [FIRST, SNAPSHOT].into_iter();
    let mut vouched = Local::now();
    loop {
        let wait = patience.next().unwrap_or(pace.silent());
        let Ok(Some(frame)) = NodeRuntime::timeout(wait, pipe.next()).await else {
            return;
        };
        match frame {
            Feed::Snapshot(meta, body) => {
                // A voter that lags would take back what this node has acted on.
                if meta.last_log_id < process.shared.read().applied {
                    return;
                }
                if let Err(why) = process.shared.restore(&meta, &body) {
                    return process.fail(&why);
                }
                process.shared.news.ring();
            }
            Feed::Entries(entries) => {
                for entry in &entries {
                    if entry.log_id.index
                        != process.shared.read().applied.map_or(0, |id| id.index + 1)
                    {
                        return;
                    }
                    process.shared.apply(entry);
                }
                process.shared.news.ring();
            }
            Feed::Alive(leader, quorum) => {
                if quorum {
                    process.hear();
                    vouched = Local::now();
                } else if vouched.elapsed() > ALONE {
                    return;
                }
                process.set_standing(leader, VoteMark::default());
                remember(process);
            }
        }
    }
}

fn pace(process: &Process) -> Pace {
    Pace::of(Duration::from_nanos(process.timing.lease.0))
}

/// Keeps the members' addresses on disk, for the next start: an agent has no log to read them from.
fn remember(process: &Process) {
    let members: Vec<_> = {
        let replica = process.shared.read();
        let nodes = replica.membership.membership().nodes();
        nodes
            .map(|(id, member)| (NodeId(*id), member.peer))
            .collect()
    };
    if !members.is_empty()
        && let Some(identity) = &mut *lock(&process.host.identity)
    {
        identity.hints = members;
    }
}

/// The agent's end is gone, so the voter's may go.
struct HangUp(Arc<Pipe>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn open(process: &Arc<Process>, voter: NodeId, to: HostId) -> Arc<Pipe> {
    let (agent, from) = (process.me(), process.host.id);
    let from_here = (process.shared.read().applied, pace(process));
    let pipe = Arc::new(Pipe {
        from: to,
        to: from,
        unsent: Mutex::default(),
        frames: Mutex::default(),
        bell: Notify::new(),
        closed: AtomicBool::new(false),
    });
    let (world, stream, caller) = (process.world.clone(), pipe.clone(), process.clone());
    let arrive = move || {
        let there = world.host(to);
        match there.process().filter(|there| there.me() == voter) {
            Some(there) if there.was_removed(agent) => caller.removed(),
            Some(there) => spawn_in(&there.daemon, feed(there.clone(), agent, from_here, stream)),
            None => drop(Closing(world.clone(), stream)),
        }
    };
    process.world.net.message(from, to, Box::new(arrive));
    pipe
}
