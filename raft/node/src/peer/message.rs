//! What nodes ask and answer.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;

use super::message_wire as wire;
use crate::types::{SnapshotMeta, Types, Vote};

/// A request of one member to another.
#[derive(Debug)]
pub(crate) enum Request {
    Ping,
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        body: Bytes,
    },
    TransferLeader(TransferLeaderRequest<Types>),
    /// To the leader: put this command into the log, unless the request with this number is there already.
    Propose {
        id: u128,
        command: Command,
    },
    /// To the leader: which entry must a read have seen?
    ReadIndex,
    /// To the leader: hand over, to this node or the best one.
    Handover(Option<NodeId>),
    /// To the leader: take this node out.
    Remove(NodeId),
}

/// The reply to a [`Request`].
#[derive(Debug)]
pub(crate) enum Response {
    Done,
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    Snapshot(Vote),
    TransferLeader(openraft::raft::TransferLeaderResponse<Types>),
    Proposed(Outcome),
    ReadIndex(u64),
    /// Ask this node instead, if it is known.
    NotLeader(Option<NodeId>),
    Failed(String),
}

/// A stranger asks to be admitted.
#[derive(Clone, Debug)]
pub(crate) struct JoinAsk {
    /// Makes a repeated question the same one.
    pub(crate) id: u128,
    pub(crate) secret: [u8; 20],
    pub(crate) name: Name,
    pub(crate) peer: SocketAddr,
    pub(crate) beat_key: [u8; 32],
    /// The public key to be certified.
    pub(crate) spki: Vec<u8>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What an admitted node needs to know.
#[derive(Debug)]
pub(crate) struct JoinAnswer {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) certificate: Vec<u8>,
    /// For voters only.
    pub(crate) ca_key: Option<Vec<u8>>,
    pub(crate) members: Vec<(NodeId, SocketAddr)>,
}

impl Wire for Request {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Ping => 0u8.encode(out),
            Self::Append(rpc) => {
                1u8.encode(out);
                wire::put_append(rpc, out);
            }
            Self::Vote(rpc) => {
                2u8.encode(out);
                wire::put_vote_request(rpc, out);
            }
            Self::PreVote(rpc) => {
                3u8.encode(out);
                wire::put_vote_request(rpc, out);
            }
            Self::Snapshot { vote, meta, body } => {
                4u8.encode(out);
                wire::put_snapshot(vote, meta, body, out);
            }
            Self::TransferLeader(rpc) => {
                5u8.encode(out);
                wire::put_transfer(rpc, out);
            }
            Self::Propose { id, command } => {
                6u8.encode(out);
                id.encode(out);
                command.encode(out);
            }
            Self::ReadIndex => 7u8.encode(out),
            Self::Handover(to) => {
                8u8.encode(out);
                to.encode(out);
            }
            Self::Remove(node) => {
                9u8.encode(out);
                node.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => Ok(Self::Ping),
            1 => wire::get_append(input).map(Self::Append),
            2 => wire::get_vote_request(input).map(Self::Vote),
            3 => wire::get_vote_request(input).map(Self::PreVote),
            4 => wire::get_snapshot(input).map(|(vote, meta, body)| Self::Snapshot {
                vote,
                meta,
                body,
            }),
            5 => wire::get_transfer(input).map(Self::TransferLeader),
            6 => Ok(Self::Propose {
                id: u128::decode(input)?,
                command: Command::decode(input)?,
            }),
            7 => Ok(Self::ReadIndex),
            8 => Ok(Self::Handover(Option::decode(input)?)),
            9 => Ok(Self::Remove(NodeId::decode(input)?)),
            tag => Err(DecodeError::Tag { of: "request", tag }),
        }
    }
}

impl Wire for Response {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Done => 0u8.encode(out),
            Self::Append(reply) => {
                1u8.encode(out);
                wire::put_appended(reply, out);
            }
            Self::Vote(reply) => {
                2u8.encode(out);
                wire::put_vote_response(reply, out);
            }
            Self::Snapshot(vote) => {
                3u8.encode(out);
                crate::raft_wire::put_vote(vote, out);
            }
            Self::TransferLeader(reply) => {
                4u8.encode(out);
                wire::put_transferred(reply, out);
            }
            Self::Proposed(outcome) => {
                5u8.encode(out);
                outcome.encode(out);
            }
            Self::ReadIndex(index) => {
                6u8.encode(out);
                index.encode(out);
            }
            Self::NotLeader(leader) => {
                7u8.encode(out);
                leader.encode(out);
            }
            Self::Failed(why) => {
                8u8.encode(out);
                why.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => Ok(Self::Done),
            1 => wire::get_appended(input).map(Self::Append),
            2 => wire::get_vote_response(input).map(Self::Vote),
            3 => crate::raft_wire::get_vote(input).map(Self::Snapshot),
            4 => wire::get_transferred(input).map(Self::TransferLeader),
            5 => Ok(Self::Proposed(Outcome::decode(input)?)),
            6 => Ok(Self::ReadIndex(u64::decode(input)?)),
            7 => Ok(Self::NotLeader(Option::decode(input)?)),
            8 => Ok(Self::Failed(String::decode(input)?)),
            tag => Err(DecodeError::Tag {
                of: "response",
                tag,
            }),
        }
    }
}

impl Wire for JoinAsk {
    fn encode(&self, out: &mut Writer) {
        self.id.encode(out);
        self.secret.encode(out);
        self.name.encode(out);
        self.peer.encode(out);
        self.beat_key.encode(out);
        crate::raft_wire::put_bytes(&self.spki, out);
        self.addresses.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: u128::decode(input)?,
            secret: <[u8; 20]>::decode(input)?,
            name: Name::decode(input)?,
            peer: SocketAddr::decode(input)?,
            beat_key: <[u8; 32]>::decode(input)?,
            spki: crate::raft_wire::get_bytes(input)?,
            addresses: Vec::decode(input)?,
        })
    }
}

impl Wire for JoinAnswer {
    fn encode(&self, out: &mut Writer) {
        self.cluster.encode(out);
        self.node.encode(out);
        self.role.encode(out);
        crate::raft_wire::put_bytes(&self.certificate, out);
        crate::raft_wire::put_bytes(self.ca_key.as_deref().unwrap_or_default(), out);
        self.members.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (cluster, node, role) = (
            <[u8; 16]>::decode(input)?,
            NodeId::decode(input)?,
            Role::decode(input)?,
        );
        let (certificate, key) = (
            crate::raft_wire::get_bytes(input)?,
            crate::raft_wire::get_bytes(input)?,
        );
        let ca_key = (!key.is_empty()).then_some(key);
        Ok(Self {
            cluster,
            node,
            role,
            certificate,
            ca_key,
            members: Vec::decode(input)?,
        })
    }
}
