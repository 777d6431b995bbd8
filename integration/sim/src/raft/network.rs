//! openraft's view of the network, and everything that nodes ask of each other over TCP.

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
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;
use vipd_core::time::Instant;
use vipd_raft::parts::{Member, Snapshot, Vote, Word, Words};

use super::Types;
use crate::host::host_at;
use crate::net::HostId;
use crate::world::{CallError, NOTICED, World};

/// The pause before replication tries an unreachable peer again.
const BACKOFF: Duration = Duration::from_millis(40);

/// What one node asks of another.
#[derive(Clone)]
pub(crate) enum Request {
    /// Raft.
    Append(AppendEntriesRequest<Types>),
    /// Raft.
    Vote(VoteRequest<Types>),
    /// Raft.
    PreVote(VoteRequest<Types>),
    /// Raft.
    Snapshot(Vote, Snapshot),
    /// Raft.
    TransferLeader(TransferLeaderRequest<Types>),
    /// Put this into the log.
    Propose(u128, Box<Command>),
    /// What must a read of now have seen?
    ReadIndex,
    /// Take this node out for good.
    Remove(NodeId),
    /// Hand the lead to somebody else.
    Handover,
}

impl Request {
    /// Whether it is Raft's own, and worth nothing when it is late.
    pub(crate) fn is_raft(&self) -> bool {
        match self {
            Self::Append(_)
            | Self::Vote(_)
            | Self::PreVote(_)
            | Self::Snapshot(..)
            | Self::TransferLeader(_) => true,
            Self::Propose(..) | Self::ReadIndex | Self::Remove(_) | Self::Handover => false,
        }
    }
}

/// The answer.
pub(crate) enum Response {
    /// Raft.
    Append(AppendEntriesResponse<Types>),
    /// Raft.
    Vote(VoteResponse<Types>),
    /// Raft.
    Snapshot(Vote),
    /// Raft.
    TransferLeader(TransferLeaderResponse<Types>),
    /// What came of the command.
    Proposed(Outcome),
    /// That entry.
    ReadIndex(u64),
    /// It is done.
    Done,
    /// Ask somebody else; this one, if it is known.
    NotLeader(Option<NodeId>),
    /// It is not.
    Failed(String),
}

/// Makes the connections that openraft asks for.
pub(crate) struct Network {
    me: u64,
    host: HostId,
    world: Arc<World>,
    quiet: Arc<AtomicBool>,
    words: Arc<Words>,
}

impl Network {
    /// From member `me` on `host`, which as a leader says nothing while it is to keep `quiet`.
    #[must_use]
    pub(crate) fn new(
        me: u64,
        host: HostId,
        world: Arc<World>,
        quiet: Arc<AtomicBool>,
        words: Arc<Words>,
    ) -> Self {
        Self {
            me,
            host,
            world,
            quiet,
            words,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        Client {
            me: self.me,
            from: self.host,
            target,
            to: host_at(node.peer),
            world: self.world.clone(),
            quiet: self.quiet.clone(),
            words: self.words.clone(),
            beats: false,
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Client {
        Client {
            beats: true,
            ..self.new_client(target, node).await
        }
    }
}

/// openraft's connection to one peer.
pub(crate) struct Client {
    me: u64,
    from: HostId,
    target: u64,
    to: HostId,
    world: Arc<World>,
    quiet: Arc<AtomicBool>,
    words: Arc<Words>,
    /// For heartbeats alone.
    beats: bool,
}

impl Client {
    /// Whether the peer's beats answer this.
    fn is_answered_by_beats(&self, rpc: &AppendEntriesRequest<Types>) -> bool {
        let word = Word::of(&rpc.vote, rpc.leader_commit.map(|id| id.index));
        let now = self.now();
        rpc.entries.is_empty()
            && !self.quiet.load(Ordering::Relaxed)
            && self.words.may_ride(NodeId(self.target), now)
            && self.words.says(NodeId(self.target), word, now)
    }

    fn now(&self) -> Instant {
        Instant(self.world.host(self.from).clock.now())
    }

    fn answered(&self, well: bool) {
        self.words.answered(NodeId(self.target), well, self.now());
    }

    /// What a leader says, by which others take it for alive.
    async fn lead(
        &self,
        action: RPCTypes,
        request: Request,
        patience: Duration,
    ) -> Result<Response, RPCError<Types>> {
        if self.quiet.load(Ordering::Relaxed) {
            return Err(Unreachable::from_string("quiet").into());
        }
        let reply = self.call(action, request, patience).await;
        if reply.is_err() {
            self.answered(false);
        }
        reply
    }

    async fn call(
        &self,
        action: RPCTypes,
        request: Request,
        patience: Duration,
    ) -> Result<Response, RPCError<Types>> {
        let (id, target, timeout) = (self.me, self.target, patience);
        match self
            .world
            .call(self.from, self.to, NodeId(target), request, patience)
            .await
        {
            Ok(Response::Failed(why)) => Err(Unreachable::from_string(why).into()),
            Ok(reply) => Ok(reply),
            Err(CallError::Unreachable) => Err(Unreachable::from_string("refused").into()),
            Err(CallError::Unknown) => Err(Timeout {
                action,
                id,
                target,
                timeout,
            }
            .into()),
        }
    }
}

fn unexpected() -> RPCError<Types> {
    NetworkError::from_string("another answer than was asked for").into()
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        if self.beats {
            self.words.leads(self.now());
            if self.is_answered_by_beats(&rpc) {
                return Ok(AppendEntriesResponse::Success);
            }
        }
        match self
            .lead(
                RPCTypes::AppendEntries,
                Request::Append(rpc),
                option.hard_ttl(),
            )
            .await?
        {
            Response::Append(reply) => {
                if self.beats {
                    self.answered(reply.is_success());
                }
                Ok(reply)
            }
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self
            .call(RPCTypes::Vote, Request::Vote(rpc), option.hard_ttl())
            .await?
        {
            Response::Vote(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self
            .call(RPCTypes::Vote, Request::PreVote(rpc), option.hard_ttl())
            .await?
        {
            Response::Vote(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let request = Request::Snapshot(vote, snapshot);
        // It takes a moment here. The daemon waits for long; but a lane whose peer takes nothing is given up, and made anew.
        let patience = option.hard_ttl().min(Duration::from_nanos(NOTICED));
        let call = self.lead(RPCTypes::InstallSnapshot, request, patience);
        let reply = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            reply = call => reply?,
        };
        match reply {
            Response::Snapshot(vote) => Ok(SnapshotResponse::new(vote)),
            _ => Err(unexpected().into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self
            .call(
                RPCTypes::TransferLeader,
                Request::TransferLeader(rpc),
                option.hard_ttl(),
            )
            .await?
        {
            Response::TransferLeader(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
