//! Asking the leader, wherever it is: the twin of `vipd_raft`'s proposals and linearizable reads.

use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Instant as _;
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;

use super::Process;
use crate::host::host_at;
use crate::raft::{Request, Response};
use crate::runtime::{Local, NodeRuntime};
use crate::world::CallError;

/// How long a proposal or a read may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a removal may take in all.
const REMOVAL: Duration = Duration::from_secs(35);
/// With one leader.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Before asking again, at first; then twice as long each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Nobody answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Whether it may have been carried out all the same.
    pub(crate) unsure: bool,
}

impl Process {
    /// Puts `command` into the log, and answers with what came of it. It takes effect at most once.
    ///
    /// # Errors
    /// [`Lost`] if there is no outcome.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, Lost> {
        let id = self
            .world
            .dice(|dice| (u128::from(dice.next()) << 64) | u128::from(dice.next()));
        match self
            .at_leader(&Request::Propose(id, Box::new(command)), PATIENCE, ATTEMPT)
            .await?
        {
            Response::Proposed(outcome) => Ok(outcome),
            _ => Err(Lost { unsure: true }),
        }
    }

    /// Returns once the local state holds everything that was acknowledged before this call.
    ///
    /// # Errors
    /// [`Lost`] if no leader vouched for it, or this node did not catch up, in time.
    pub(crate) async fn linearizable(&self) -> Result<(), Lost> {
        let Response::ReadIndex(wanted) = self
            .at_leader(&Request::ReadIndex, PATIENCE, ATTEMPT)
            .await?
        else {
            return Err(Lost { unsure: true });
        };
        let news = self.shared.news.listen();
        let caught_up = async {
            while self.shared.applied() < wanted {
                news.notified().await;
            }
        };
        let waited = NodeRuntime::timeout(PATIENCE, caught_up).await;
        waited.map_err(|_| Lost { unsure: false })
    }

    /// Takes a node out of the cluster.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn remove(&self, node: NodeId) -> Result<(), String> {
        match self
            .at_leader(&Request::Remove(node), REMOVAL, REMOVAL)
            .await
        {
            Ok(Response::Done) => Ok(()),
            Ok(Response::Failed(why)) => Err(why),
            Ok(_) | Err(_) => Err("no leader answered in time".into()),
        }
    }

    async fn at_leader(
        &self,
        request: &Request,
        whole: Duration,
        attempt: Duration,
    ) -> Result<Response, Lost> {
        let deadline = Local::now() + whole;
        let led = self.led.listen();
        let (mut unsure, mut hint, mut pause) = (false, None, PAUSE);
        while Local::now() < deadline && !self.is_over() {
            let known = self.leader();
            let Some(target) = hint.take().or(known).or_else(|| self.any_voter()) else {
                drop(NodeRuntime::timeout_at(deadline, led.notified()).await);
                continue;
            };
            let left = (deadline - Local::now()).min(attempt);
            match self.ask(target, request, left, known).await {
                Asked::Answer(response) => return Ok(response),
                Asked::Elsewhere(who) => {
                    hint = who.filter(|who| *who != target);
                    if hint.is_some() {
                        pause = PAUSE;
                    }
                }
                Asked::Unsure => unsure = true,
            }
            drop(NodeRuntime::timeout(pause, led.notified()).await);
            pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        }
        Err(Lost { unsure })
    }

    async fn ask(
        &self,
        target: NodeId,
        request: &Request,
        left: Duration,
        known: Option<NodeId>,
    ) -> Asked {
        let reply = if target == self.me() && self.voter.get().is_some() {
            let local = NodeRuntime::timeout(left, self.answer(self.me(), request.clone())).await;
            local.map_err(|_| CallError::Unknown)
        } else {
            let Some(to) = self.address(target) else {
                return Asked::Elsewhere(None);
            };
            let call = self
                .world
                .call(self.host.id, host_at(to), target, request.clone(), left);
            let led = self.led.listen();
            let changed = async {
                while self.leader().is_none() || self.leader() == known {
                    led.notified().await;
                }
            };
            tokio::select! {
                biased;
                reply = call => reply,
                // The one asked leads no more; ask the new one the same question.
                () = changed => Err(CallError::Unknown),
            }
        };
        match reply {
            Ok(Response::NotLeader(who)) => Asked::Elsewhere(who),
            Ok(Response::Failed(why)) if matches!(request, Request::Remove(_)) => {
                Asked::Answer(Response::Failed(why))
            }
            Ok(Response::Failed(_)) | Err(CallError::Unknown) => Asked::Unsure,
            Ok(response) => Asked::Answer(response),
            Err(CallError::Unreachable) => Asked::Elsewhere(None),
        }
    }

    /// Some voter, when an agent does not know who leads.
    fn any_voter(&self) -> Option<NodeId> {
        if self.voter.get().is_some() {
            return None;
        }
        let voters = self.known_voters();
        self.world.dice(|dice| dice.pick(&voters).copied())
    }

    /// The voters by its replica, or those it was told of when it joined.
    pub(super) fn known_voters(&self) -> Vec<NodeId> {
        let known: Vec<NodeId> = self
            .shared
            .read()
            .membership
            .voter_ids()
            .map(NodeId)
            .collect();
        if known.is_empty() {
            self.identity.hints.iter().map(|(node, _)| *node).collect()
        } else {
            known
        }
    }

    /// Where `node` is to be reached.
    pub(super) fn address(&self, node: NodeId) -> Option<std::net::SocketAddr> {
        let replica = self.shared.read();
        let member = replica
            .membership
            .membership()
            .get_node(&node.0)
            .map(|member| member.peer);
        let recorded = || replica.state.node(node).map(|node| node.peer);
        let hinted = || {
            self.identity
                .hints
                .iter()
                .find(|(hinted, _)| *hinted == node)
                .map(|(_, peer)| *peer)
        };
        member.or_else(recorded).or_else(hinted)
    }
}

enum Asked {
    Answer(Response),
    Elsewhere(Option<NodeId>),
    Unsure,
}
