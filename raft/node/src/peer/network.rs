//! openraft's view of the network.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes};
use vipd_core::id::NodeId;

use super::link::{CallError, Link};
use super::{Directory, Lane, Request, Response};
use crate::beat::{Word, Words, now};
use crate::types::{Member, Snapshot, Types, Vote};

/// The pause before replication tries an unreachable peer again.
const BACKOFF: Duration = Duration::from_millis(40);

/// Makes the connections that openraft asks for.
#[derive(Clone)]
pub(crate) struct Network {
    me: NodeId,
    directory: Directory,
    quiet: Arc<AtomicBool>,
    words: Arc<Words>,
}

impl Network {
    /// From node `me`, which sends neither heartbeats nor entries nor snapshots while it is to keep `quiet`.
    pub(crate) fn new(
        me: NodeId,
        directory: Directory,
        quiet: Arc<AtomicBool>,
        words: Arc<Words>,
    ) -> Self {
        Self {
            me,
            directory,
            quiet,
            words,
        }
    }

    fn client(&self, target: u64, node: &Member, lane: Lane) -> Client {
        let target = NodeId(target);
        self.directory.hint(target, node.peer);
        let pulse = self.directory.lane(target, Lane::Pulse);
        Client {
            me: self.me,
            target,
            lane: self.directory.lane(target, lane),
            pulse,
            quiet: self.quiet.clone(),
            words: self.words.clone(),
            beats: false,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Client {
        Client {
            beats: true,
            ..self.client(target, node, Lane::Pulse)
        }
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Lane::Bulk)
    }
}

/// openraft's connection to one peer: entries or snapshots on their lane, votes always on the fast one.
pub(crate) struct Client {
    me: NodeId,
    target: NodeId,
    lane: Arc<Link>,
    pulse: Arc<Link>,
    quiet: Arc<AtomicBool>,
    words: Arc<Words>,
    /// For heartbeats alone: an append without entries that is none asks where the peer's log is, which no beat says.
    beats: bool,
}

impl Client {
    async fn call(
        &self,
        link: &Link,
        action: RPCTypes,
        request: &Request,
        patience: Duration,
    ) -> Result<Response, RPCError<Types>> {
        match link.call(request, patience).await {
            Ok(Response::Failed(why) | Response::Unsure(why)) => {
                Err(Unreachable::from_string(why).into())
            }
            Ok(reply) => Ok(reply),
            Err(CallError::Unreachable(why)) => Err(Unreachable::from_string(why).into()),
            Err(CallError::Unknown(why)) => {
                tracing::debug!(node = %self.target, %why, "no reply");
                Err(Timeout {
                    action,
                    id: self.me.0,
                    target: self.target.0,
                    timeout: patience,
                }
                .into())
            }
        }
    }

    /// What a leader says, by which others take it for alive.
    async fn lead(
        &self,
        action: RPCTypes,
        request: &Request,
        patience: Duration,
    ) -> Result<Response, RPCError<Types>> {
        if self.quiet.load(Ordering::Relaxed) {
            let why = "not asked: this leader keeps quiet, as no majority answers it";
            return Err(Unreachable::from_string(why).into());
        }
        let reply = self.call(&self.lane, action, request, patience).await;
        if reply.is_err() {
            self.words.answered(self.target, false, now());
        }
        reply
    }

    /// Whether the peer's beats answer this: it is a heartbeat, and by them the peer follows this leader and knows what is
    /// committed, as it would say.
    fn is_answered_by_beats(&self, rpc: &AppendEntriesRequest<Types>) -> bool {
        let word = Word::of(&rpc.vote, rpc.leader_commit.map(|id| id.index));
        let now = now();
        rpc.entries.is_empty()
            && !self.quiet.load(Ordering::Relaxed)
            && self.words.may_ride(self.target, now)
            && self.words.says(self.target, word, now)
    }

    fn unexpected(&self, reply: &Response) -> RPCError<Types> {
        NetworkError::from_string(format!(
            "node {} answered something else: {reply:?}",
            self.target
        ))
        .into()
    }

    async fn ask_vote(
        &self,
        request: Request,
        patience: Duration,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self
            .call(&self.pulse, RPCTypes::Vote, &request, patience)
            .await?
        {
            Response::Vote(reply) => Ok(reply),
            other => Err(self.unexpected(&other)),
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        if self.beats {
            self.words.leads(now());
            if self.is_answered_by_beats(&rpc) {
                return Ok(AppendEntriesResponse::Success);
            }
        }
        match self
            .lead(
                RPCTypes::AppendEntries,
                &Request::Append(rpc),
                option.hard_ttl(),
            )
            .await?
        {
            Response::Append(reply) => {
                if self.beats {
                    self.words.answered(self.target, reply.is_success(), now());
                }
                Ok(reply)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Request::Vote(rpc), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Request::PreVote(rpc), option.hard_ttl())
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let request = Request::Snapshot {
            vote,
            meta: snapshot.meta,
            body: snapshot.snapshot,
        };
        let reply = tokio::select! {
            closed = cancel => return Err(closed.into()),
            reply = self.lead(RPCTypes::InstallSnapshot, &request, option.hard_ttl()) => reply?,
        };
        match reply {
            Response::Snapshot(vote) => Ok(SnapshotResponse::new(vote)),
            other => Err(self.unexpected(&other).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::TransferLeader(rpc);
        match self
            .call(
                &self.pulse,
                RPCTypes::TransferLeader,
                &request,
                option.hard_ttl(),
            )
            .await?
        {
            Response::TransferLeader(reply) => Ok(reply),
            other => Err(self.unexpected(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::first_voter;

    #[tokio::test]
    async fn only_what_a_heartbeat_client_sends_may_be_answered_by_beats() {
        let host = first_voter().await;
        let core = &host.node.core;
        let words = core.words.clone();
        let quiet = Arc::default();
        let mut network = Network::new(NodeId(1), core.directory.clone(), quiet, words);
        let member = Member {
            peer: core.identity.peer,
        };
        assert!(!network.new_client(2, &member).await.beats);
        assert!(!network.new_snapshot_client(2, &member).await.beats);
        assert!(network.new_heartbeat_client(2, &member).await.beats);
    }
}
