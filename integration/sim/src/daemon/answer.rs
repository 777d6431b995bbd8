//! What a node answers its peers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::ReadPolicy;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use vipd_core::command::{Command, Proposal};
use vipd_core::id::NodeId;
use vipd_core::time::Instant;
use vipd_raft::parts;

use super::{Process, Voter, heartbeats};
use crate::lock;
use crate::mutant::Mutant;
use crate::raft::{Request, Response};
use crate::runtime::{Local, NodeRuntime};

/// How long the leader works on a request.
const FORWARDED: Duration = Duration::from_secs(5);

fn failed(error: impl std::fmt::Display) -> Response {
    Response::Failed(error.to_string())
}

impl Process {
    /// Answers a request of `from`, which may be this node itself.
    pub(crate) async fn answer(&self, from: NodeId, request: Request) -> Response {
        let Some(voter) = self.voter.get() else {
            return Response::Failed(
                "an agent takes no requests, nor does a voter that starts".into(),
            );
        };
        let raft = &voter.raft;
        match request {
            Request::Append(rpc) => match raft.append_entries(rpc).await {
                Ok(reply) => {
                    if reply.is_success() {
                        self.hear();
                    }
                    Response::Append(reply)
                }
                Err(error) => failed(error),
            },
            Request::Vote(rpc)
                if !rpc.leadership_transfer && heartbeats::waits_for_leader(self) =>
            {
                Response::Vote(heartbeats::refusal(voter))
            }
            Request::PreVote(_) if heartbeats::waits_for_leader(self) => {
                Response::Vote(heartbeats::refusal(voter))
            }
            Request::Vote(rpc) => raft.vote(rpc).await.map_or_else(failed, Response::Vote),
            Request::PreVote(rpc) => raft.pre_vote(rpc).await.map_or_else(failed, Response::Vote),
            Request::Snapshot(vote, snapshot) => {
                let installed = raft.install_full_snapshot(vote, snapshot).await;
                installed.map_or_else(failed, |done| Response::Snapshot(done.vote))
            }
            Request::TransferLeader(rpc) => {
                heartbeats::let_go(self);
                let taken = raft.handle_transfer_leader(rpc).await;
                taken.map_or_else(failed, Response::TransferLeader)
            }
            Request::Propose(id, command) => {
                let command = self.unbind(*command);
                let at = vipd_core::time::Millis(self.world.wall_clock(self.host.id));
                let request = parts::Request {
                    id,
                    proposal: Proposal {
                        at,
                        command,
                        by: None,
                    },
                };
                let write = NodeRuntime::timeout(FORWARDED, write(voter, request)).await;
                write.unwrap_or_else(|_| Response::Failed("no majority in time".into()))
            }
            Request::ReadIndex => {
                let read = NodeRuntime::timeout(FORWARDED, self.read_index(voter)).await;
                read.unwrap_or_else(|_| Response::Failed("no majority in time".into()))
            }
            Request::Remove(node) => self.remove_here(voter, node).await,
            Request::Handover => self.hand_over(voter, from).await,
        }
    }

    /// Under the mutant of that name, a release counts whatever its token.
    fn unbind(&self, command: Command) -> Command {
        match command {
            Command::Released { node, addresses }
                if self.world.mutant == Mutant::ReleaseUnbound =>
            {
                let replica = self.shared.read();
                let now = |address| replica.state.allocations().get(&address).map(|it| it.epoch);
                let addresses = addresses
                    .into_iter()
                    .map(|(it, token)| (it, now(it).unwrap_or(token)))
                    .collect();
                Command::Released { node, addresses }
            }
            other => other,
        }
    }

    async fn read_index(&self, voter: &Voter) -> Response {
        if self.world.mutant == Mutant::LocalRead {
            return Response::ReadIndex(self.shared.applied());
        }
        let _asking = self.words.ask();
        match voter.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _applied)) => Response::ReadIndex(read.log_id().index),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Response::NotLeader(to.leader_id.map(NodeId))
            }
            Err(error) => failed(error),
        }
    }

    /// Hands the lead to the voter with the longest log that was heard lately.
    async fn hand_over(&self, voter: &Voter, _from: NodeId) -> Response {
        let now = voter.raft.metrics().borrow_watched().clone();
        if now.current_leader != Some(now.id) {
            return Response::NotLeader(now.current_leader.map(NodeId));
        }
        let recent = Duration::from_nanos(self.timing.lease.0);
        let heard = |id: &u64| {
            let at = now.heartbeat.as_ref()?.get(id)?.as_ref()?;
            (at.elapsed() <= recent).then_some(())
        };
        let others = now
            .membership_config
            .voter_ids()
            .filter(|id| *id != now.id && heard(id).is_some());
        let best = others.max_by_key(|id| {
            let log = now
                .replication
                .as_ref()
                .and_then(|logs| logs.get(id).copied().flatten());
            (log.map(|id| id.index), std::cmp::Reverse(*id))
        });
        match best {
            Some(best) => match voter.raft.trigger().transfer_leader(best).await {
                Ok(()) => Response::Done,
                Err(error) => failed(error),
            },
            None => Response::Failed("no other voter is alive".into()),
        }
    }

    /// Whether a majority has answered this node within an election time-out, as a leader.
    pub(super) fn majority_answers(&self) -> bool {
        let recent = Duration::from_nanos(self.timing.lease.0);
        let voter = self.voter.get();
        voter.is_some_and(|voter| answered(voter, recent))
    }

    /// As a leader, sends the others nothing by which they take it for alive.
    pub(super) fn keep_quiet(&self, quiet: bool) {
        let loud = self.world.mutant == Mutant::LoudLeader;
        if let Some(voter) = self.voter.get()
            && !loud
            && voter.quiet.swap(quiet, Ordering::Relaxed) != quiet
        {
            let (host, me) = (self.host.id, self.me());
            let word = if quiet { "quiet" } else { "quiet no more" };
            self.world.trace.line(format_args!("{host} n{me}: {word}"));
        }
    }

    /// Notes that a leader was heard now.
    pub(super) fn hear(&self) {
        self.words.spoke(Instant(self.host.clock.now()));
        self.hear_by_beat();
    }

    /// The same, by its beats.
    pub(super) fn hear_by_beat(&self) {
        *lock(&self.heard) = Some(Local::now());
    }

    /// Whether a majority can be assumed to be there.
    pub(super) fn quorum_ok(&self) -> bool {
        let recent = Duration::from_nanos(self.timing.lease.0 * 2);
        let heard = || lock(&self.heard).is_some_and(|at| at.elapsed() <= recent);
        match (self.leader(), self.voter.get()) {
            (Some(leader), Some(voter)) if leader == self.me() => answered(voter, recent),
            (Some(_), _) => heard(),
            (None, _) => false,
        }
    }
}

/// Whether a majority has answered within `recent`: all that there is, if it is the only voter.
fn answered(voter: &Voter, recent: Duration) -> bool {
    let metrics = voter.raft.metrics();
    let now = metrics.borrow_watched();
    let acked = now.last_quorum_acked;
    now.membership_config.voter_ids().eq([now.id]) || acked.is_some_and(|at| at.elapsed() <= recent)
}

async fn write(voter: &Voter, request: parts::Request) -> Response {
    match voter.raft.client_write(request).await {
        Ok(written) => match written.data.0 {
            Some(outcome) => Response::Proposed(outcome),
            None => Response::Failed("the entry had no outcome".into()),
        },
        Err(RaftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        )) => Response::NotLeader(to.leader_id.map(NodeId)),
        Err(error) => failed(error),
    }
}
