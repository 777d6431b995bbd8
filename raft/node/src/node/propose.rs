//! Proposing from anywhere: here if this node leads, else through the peer that does.

use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use vipd_core::asker::{Asker, Who};
use vipd_core::codec::Wire;
use vipd_core::command::{Command, Outcome, Proposal};
use vipd_core::id::NodeId;

use super::handle::RaftNode;
use super::standing::beyond_agents;
use crate::identity::now;
use crate::peer::{CallError, Lane, Request as Ask, Response};
use crate::store::MAX_COMMAND;
use crate::types::{Request, Types};

/// One attempt at one leader; a repeated one is recognised by its number.
pub(super) const ATTEMPT: Duration = Duration::from_millis(1500);
/// The pause before asking again when nobody leads yet, or the one that leads has not yet heard a majority: at first
/// short, because a new leader is writable within a round trip; then twice as long each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Nobody took it in time; it has had no effect.
    #[error("no leader took the command within {patience:?}{}; it was not carried out. Next: see `vipctl status` \
             whether a majority of the voters is up", last.as_ref().map(|last| format!(" ({last})")).unwrap_or_default())]
    NoLeader {
        /// How long it was tried.
        patience: Duration,
        /// What the last attempt said.
        last: Option<String>,
    },
    /// It was given to a leader, and no answer came in time.
    #[error(
        "no answer within {patience:?} ({last}); the command may have been carried out or may yet be. Next: look \
             at the object, then repeat"
    )]
    Unknown {
        /// How long it was tried.
        patience: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// It is larger than an entry of the log may be.
    #[error("the command is {size} bytes, more than {limit}; split it into several objects")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// This node is an agent, and that is asked of voters only.
    #[error("this node is an agent: it {0}")]
    Agent(&'static str),
    /// This node is stopping.
    #[error("this node is shutting down")]
    Stopping,
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// In all.
    pub(super) whole: Duration,
    /// While nobody has taken it, so that it has had no effect.
    pub(super) untaken: Duration,
    /// With one leader, before it is asked whether it still leads.
    pub(super) attempt: Duration,
}

impl From<Duration> for Patience {
    fn from(whole: Duration) -> Self {
        Self {
            whole,
            untaken: whole,
            attempt: ATTEMPT,
        }
    }
}

type WriteError = RaftError<Types, ClientWriteError<Types>>;

/// What one attempt came to.
pub(super) enum Attempt<T> {
    Done(T),
    /// Certainly nothing happened there; perhaps this node leads.
    Elsewhere(Option<NodeId>, String),
    /// Something may have happened.
    Unsure(String),
}

impl<T> Attempt<T> {
    /// What an agent answers to what only a leader can do.
    pub(super) fn no_vote() -> Self {
        Self::Elsewhere(None, "this node is an agent: it never leads".into())
    }
}

impl RaftNode {
    /// Puts `command` into the log, through the leader wherever it is, and answers with what came of it. Tries again
    /// across changes of leader within [`Settings::patience`](super::Settings); the command takes effect at most once.
    ///
    /// # Errors
    /// [`ProposeError`] if there is no outcome. That the command was rejected is an outcome.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        self.propose_numbered(rand::random(), command, None, self.core.settings.patience)
            .await
    }

    /// The same for `who` asked this node.
    ///
    /// # Errors
    /// As [`RaftNode::propose`].
    pub async fn propose_for(&self, who: Who, command: Command) -> Result<Outcome, ProposeError> {
        let (by, patience) = (self.asked_by(who), self.core.settings.patience);
        self.propose_numbered(rand::random(), command, Some(by), patience)
            .await
    }

    /// Why this node proposes no such command, whoever asks it: agents leave some to voters.
    #[must_use]
    pub fn refuses(&self, command: &Command) -> Option<ProposeError> {
        match self.core.voter {
            Some(_) => None,
            None => beyond_agents(self.id(), command).map(ProposeError::Agent),
        }
    }

    /// Whoever asks this node.
    pub(super) fn asked_by(&self, who: Who) -> Asker {
        Asker {
            node: self.id(),
            who,
        }
    }

    pub(crate) async fn propose_numbered(
        &self,
        id: u128,
        command: Command,
        by: Option<Asker>,
        patience: Duration,
    ) -> Result<Outcome, ProposeError> {
        let size = command.to_bytes().len();
        if size > MAX_COMMAND {
            return Err(ProposeError::TooLarge {
                size,
                limit: MAX_COMMAND,
            });
        }
        // The leader would refuse it, and that is what counts. Here it is told at once, and why.
        if let Some(refused) = self.refuses(&command) {
            return Err(refused);
        }
        let ask = Ask::Propose {
            id,
            command: Box::new(command.clone()),
            by: by.clone(),
        };
        let local = |node: Self| -> BoxFuture<'static, _> {
            let (command, by) = (command.clone(), by.clone());
            Box::pin(async move { write(&node, id, command, by).await })
        };
        let read = |reply| match reply {
            Response::Proposed(outcome) => Some(outcome),
            _ => None,
        };
        self.at_leader(ask, patience.into(), local, read).await
    }

    /// Does something at the leader: `local` if this node leads, else `ask` by network, `read` picking the answer.
    pub(super) async fn at_leader<T>(
        &self,
        ask: Ask,
        patience: Patience,
        local: impl Fn(Self) -> BoxFuture<'static, Attempt<T>>,
        read: impl Fn(Response) -> Option<T>,
    ) -> Result<T, ProposeError> {
        let begun = Instant::now();
        let (mut unsure, mut last): (Option<String>, Option<String>) = (None, None);
        let mut hint = None;
        let mut pause = PAUSE;
        let mut leader = self.core.leader.subscribe();
        loop {
            let deadline = match unsure {
                None => begun + patience.untaken,
                Some(_) => begun + patience.whole,
            };
            if Instant::now() >= deadline {
                break;
            }
            if self.core.stop.is_cancelled() || self.core.failed.borrow().is_some() {
                match unsure {
                    // Stopping means that nothing was done.
                    None => return Err(ProposeError::Stopping),
                    Some(_) => break,
                }
            }
            let known = *leader.borrow_and_update();
            let Some(target) = hint.take().or(known).or_else(|| self.any_voter()) else {
                drop(timeout_at(deadline, leader.changed()).await);
                continue;
            };
            let left = (begun + patience.whole)
                .saturating_duration_since(Instant::now())
                .min(patience.attempt);
            let attempt = match &self.core.voter {
                Some(_) if target == self.id() => {
                    let late = |_| Attempt::Unsure("the entry was not committed in time".into());
                    timeout(left, local(self.clone()))
                        .await
                        .unwrap_or_else(late)
                }
                _ => {
                    let lane = self.core.directory.lane(target, Lane::Bulk);
                    let changed = leader.wait_for(|now| now.is_some() && *now != known);
                    tokio::select! {
                        reply = lane.call(&ask, left) => sort(target, reply, &read),
                        // The one asked leads no more; ask the new one the same question, at once.
                        _ = changed => {
                            pause = Duration::ZERO;
                            Attempt::Unsure(format!("node {target} lost the lead"))
                        }
                    }
                }
            };
            match attempt {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Elsewhere(who, why) => {
                    hint = who.filter(|who| *who != target);
                    last = Some(why);
                    if hint.is_some() {
                        // Known where to go; but two nodes that each take the other for the leader are no busy loop.
                        pause = PAUSE;
                    }
                }
                Attempt::Unsure(why) => unsure = Some(why),
            }
            tokio::select! {
                () = sleep(pause.min(deadline.saturating_duration_since(Instant::now()))) => {}
                _ = leader.changed() => {}
            }
            pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        }
        Err(match unsure {
            Some(last) => ProposeError::Unknown {
                patience: patience.whole,
                last,
            },
            None => ProposeError::NoLeader {
                patience: patience.untaken,
                last,
            },
        })
    }

    /// Some other voter, when it is not known who leads: an agent that starts, or a follower without a leader.
    fn any_voter(&self) -> Option<NodeId> {
        if self.core.voter.is_some() {
            return None;
        }
        let replica = self.core.shared.read();
        let mut voters: Vec<NodeId> = replica.membership.voter_ids().map(NodeId).collect();
        drop(replica);
        if voters.is_empty() {
            voters = self.core.directory.hints();
        }
        (!voters.is_empty()).then(|| voters[rand::random_range(0..voters.len())])
    }
}

pub(super) fn sort<T>(
    target: NodeId,
    reply: Result<Response, CallError>,
    read: impl Fn(Response) -> Option<T>,
) -> Attempt<T> {
    match reply {
        Ok(Response::NotLeader(leader)) => {
            Attempt::Elsewhere(leader, format!("node {target} does not lead"))
        }
        Ok(Response::Unsure(why)) => Attempt::Unsure(why),
        Ok(other) => {
            let why = match &other {
                Response::Failed(why) => why.clone(),
                _ => format!("node {target} answered something else"),
            };
            read(other).map_or(Attempt::Unsure(why), Attempt::Done)
        }
        Err(CallError::Unreachable(why)) => Attempt::Elsewhere(None, why),
        Err(CallError::Unknown(why)) => Attempt::Unsure(why),
    }
}

/// Writes through this node's own Raft.
pub(super) async fn write(
    node: &RaftNode,
    id: u128,
    command: Command,
    by: Option<Asker>,
) -> Attempt<Outcome> {
    let Some(voter) = &node.core.voter else {
        return Attempt::no_vote();
    };
    let proposal = Proposal {
        at: now(),
        command,
        by,
    };
    came_of(voter.raft.client_write(Request { id, proposal }).await)
}

/// What openraft says of a write.
fn came_of(written: Result<ClientWriteResponse<Types>, WriteError>) -> Attempt<Outcome> {
    match written {
        Ok(response) => match response.data.0 {
            Some(outcome) => Attempt::Done(outcome),
            None => Attempt::Unsure("the entry had no outcome".into()),
        },
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
            Attempt::Elsewhere(to.leader_id.map(NodeId), "this node does not lead".into())
        }
        // It was in this node's log. It may be in the next leader's too, or in the snapshot that took the place of both.
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
            Attempt::Unsure("this node lost the lead before the entry was applied here".into())
        }
        Err(error) => Attempt::Unsure(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use openraft::errors::ForwardToLeader;

    use super::*;
    use crate::testing::first_voter;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_that_stops_says_so_only_while_nothing_can_have_been_done() {
        let host = first_voter().await;
        let stops = |node: RaftNode| -> BoxFuture<'static, Attempt<()>> {
            node.core.stop.cancel();
            Box::pin(async { Attempt::Unsure("it may be in the log".into()) })
        };
        let ask = || {
            host.node
                .at_leader(Ask::Ping, ATTEMPT.into(), stops, |_| None)
        };
        let first = ask().await;
        assert!(
            matches!(&first, Err(ProposeError::Unknown { last, .. }) if last.contains("in the log")),
            "{first:?}"
        );
        // Now it is known before anybody is asked.
        let second = ask().await;
        assert!(matches!(second, Err(ProposeError::Stopping)), "{second:?}");
        host.node.shutdown().await;
    }

    #[test]
    fn only_what_was_never_in_the_log_is_said_not_to_have_been_carried_out() {
        let refused = ClientWriteError::ForwardToLeader(ForwardToLeader::empty());
        assert!(matches!(
            came_of(Err(RaftError::APIError(refused))),
            Attempt::Elsewhere(None, _)
        ));
        let discarded = ClientWriteError::LogEntryDiscarded(ForwardToLeader::empty());
        assert!(matches!(
            came_of(Err(RaftError::APIError(discarded))),
            Attempt::Unsure(_)
        ));
    }
}
