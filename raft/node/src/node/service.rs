//! What this node answers its peers.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteResponse;
use tokio::time::timeout;
use vipd_core::asker::Asker;
use vipd_core::id::NodeId;

use super::handle::{Core, RaftNode, Voter};
use super::propose::{Attempt, write};
use super::read::read_index;
use super::removal::{REMOVAL, RemovalError};
use super::standing::refuse;
use super::transfer::hand_over;
use crate::agent;
use crate::join;
use crate::peer::{Feeder, JoinAnswer, JoinAsk, Request, Response, Service};
use crate::types::{Snapshot, Types};

/// How long the leader works on a forwarded request before the asker is told to ask again.
const FORWARDED: Duration = Duration::from_secs(5);

/// The node, seen from the network. Holds it weakly: the listener must not keep a dropped node alive.
pub(crate) struct NodeService {
    core: Weak<Core>,
    me: ([u8; 16], NodeId),
}

impl NodeService {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::downgrade(core),
            me: (core.identity.cluster, core.identity.node),
        }
    }

    fn core(&self) -> io::Result<Arc<Core>> {
        self.core
            .upgrade()
            .ok_or_else(|| io::Error::other("this node is shutting down"))
    }
}

impl Service for NodeService {
    fn me(&self) -> ([u8; 16], NodeId) {
        self.me
    }

    fn was_removed(&self, node: NodeId) -> bool {
        self.core().is_ok_and(|core| core.was_removed(node))
    }

    async fn answer(&self, from: NodeId, request: Request) -> Response {
        match self.core() {
            Ok(core) => answer(&RaftNode { core }, from, request).await,
            // No refusal: whoever takes the lead next may well do it.
            Err(error) => Response::Unsure(error.to_string()),
        }
    }

    async fn feed(&self, from: NodeId, stream: Feeder) -> io::Result<()> {
        agent::feed(RaftNode { core: self.core()? }, from, stream).await
    }

    async fn admit(&self, ask: JoinAsk) -> Result<JoinAnswer, String> {
        let core = self.core().map_err(|error| error.to_string())?;
        join::admit(&RaftNode { core }, ask).await
    }
}

async fn answer(node: &RaftNode, from: NodeId, request: Request) -> Response {
    let Some(voter) = &node.core.voter else {
        return Response::Failed("an agent takes no requests".into());
    };
    if let Some(refused) = refuse(&node.core, from, &request) {
        tracing::warn!(%from, ?refused, "a request was refused");
        return refused;
    }
    let raft = &voter.raft;
    match request {
        Request::Ping => Response::Done,
        Request::Append(rpc) => {
            let reply = reply(raft.append_entries(rpc).await, Response::Append);
            if let Response::Append(accepted) = &reply
                && accepted.is_success()
            {
                node.core.hear();
            }
            reply
        }
        Request::Vote(rpc) if !rpc.leadership_transfer && node.core.waits_for_leader() => {
            Response::Vote(refusal(voter))
        }
        Request::PreVote(_) if node.core.waits_for_leader() => Response::Vote(refusal(voter)),
        Request::Vote(rpc) => reply(raft.vote(rpc).await, Response::Vote),
        Request::PreVote(rpc) => reply(raft.pre_vote(rpc).await, Response::Vote),
        Request::Snapshot { vote, meta, body } => {
            let snapshot = Snapshot {
                meta,
                snapshot: body,
            };
            reply(raft.install_full_snapshot(vote, snapshot).await, |done| {
                Response::Snapshot(done.vote)
            })
        }
        Request::TransferLeader(rpc) => {
            node.core.let_go();
            let taken = raft.handle_transfer_leader(rpc).await;
            reply(taken, Response::TransferLeader)
        }
        Request::Propose { id, command, by } => {
            tracing::debug!(%from, "a forwarded proposal");
            let by = vouched(from, by);
            settle(write(node, id, *command, by), Response::Proposed).await
        }
        Request::ReadIndex => settle(read_index(node), Response::ReadIndex).await,
        Request::Handover(to) => settle(hand_over(node, to), done_or_why).await,
        Request::Records(bytes) => node.core.inbox.put(from, bytes),
        Request::Remove(id, by) => {
            let removal = node.remove_here(id, vouched(from, by));
            settle_within(REMOVAL, removal, removed).await
        }
    }
}

/// No vote: this node hears a leader.
fn refusal(voter: &Voter) -> VoteResponse<Types> {
    let metrics = voter.raft.metrics();
    let now = metrics.borrow_watched();
    VoteResponse::new(now.vote, None, false)
}

/// A node may say who asked it, not who asked another: which one it is, its certificate tells.
fn vouched(from: NodeId, by: Option<Asker>) -> Option<Asker> {
    by.map(|by| Asker { node: from, ..by })
}

fn removed(result: Result<(), RemovalError>) -> Response {
    match result {
        Ok(()) => Response::Done,
        Err(RemovalError::Refused(why)) => Response::Failed(why),
        Err(RemovalError::Rejected(rejection)) => Response::Proposed(Err(rejection)),
    }
}

fn done_or_why(result: Result<(), String>) -> Response {
    result.map_or_else(Response::Failed, |()| Response::Done)
}

fn reply<T, E: std::fmt::Display>(
    result: Result<T, E>,
    response: impl FnOnce(T) -> Response,
) -> Response {
    match result {
        Ok(value) => response(value),
        Err(error) => Response::Failed(error.to_string()),
    }
}

async fn settle<T>(
    attempt: impl Future<Output = Attempt<T>>,
    response: impl FnOnce(T) -> Response,
) -> Response {
    settle_within(FORWARDED, attempt, response).await
}

async fn settle_within<T>(
    patience: Duration,
    attempt: impl Future<Output = Attempt<T>>,
    response: impl FnOnce(T) -> Response,
) -> Response {
    match timeout(patience, attempt).await {
        Ok(Attempt::Done(value)) => response(value),
        Ok(Attempt::Elsewhere(leader, _)) => Response::NotLeader(leader),
        Ok(Attempt::Unsure(why)) => Response::Unsure(why),
        Err(_) => Response::Unsure("the leader did not reach a majority in time".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::propose::sort;
    use crate::node::{removal, transfer};

    #[tokio::test]
    async fn a_leader_that_does_not_know_whether_it_was_done_is_asked_again_and_refuses_nothing() {
        let answer = settle_within(Duration::from_secs(1), unsure(), removed).await;
        assert!(matches!(
            sort(NodeId(1), Ok(answer), removal::read),
            Attempt::Unsure(_)
        ));
        let late = settle_within(Duration::ZERO, std::future::pending(), removed).await;
        assert!(matches!(
            sort(NodeId(1), Ok(late), removal::read),
            Attempt::Unsure(_)
        ));
        let refused = Attempt::Done(Err(RemovalError::Refused("it is up".into())));
        let answer = settle(async { refused }, removed).await;
        assert!(matches!(
            sort(NodeId(1), Ok(answer), removal::read),
            Attempt::Done(Err(_))
        ));
    }

    #[tokio::test]
    async fn a_leader_that_shuts_down_refuses_nothing_and_is_asked_again() {
        let service = NodeService {
            core: Weak::new(),
            me: ([7; 16], NodeId(1)),
        };
        let remove = Request::Remove(NodeId(3), None);
        let answer = service.answer(NodeId(2), remove).await;
        let read = sort(NodeId(1), Ok(answer), removal::read);
        assert!(matches!(read, Attempt::Unsure(why) if why.contains("shutting down")));
        let answer = service.answer(NodeId(2), Request::Handover(None)).await;
        let read = sort(NodeId(1), Ok(answer), transfer::read);
        assert!(matches!(read, Attempt::Unsure(_)));
    }

    async fn unsure() -> Attempt<Result<(), RemovalError>> {
        Attempt::Unsure("no majority in time".into())
    }
}
