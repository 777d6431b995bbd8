//! What nodes ask and answer.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use vipd_core::asker::Asker;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;

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
        command: Box<Command>,
        /// Who asked the sender for it, if it is not its own.
        by: Option<Asker>,
    },
    /// To the leader: which entry must a read have seen?
    ReadIndex,
    /// To the leader: hand over, to this node or the best one.
    Handover(Option<NodeId>),
    /// To the leader: take this node out, for whoever asked the sender.
    Remove(NodeId, Option<Asker>),
    /// For the daemon, see [`crate::RaftNode::tell`].
    Records(Bytes),
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
    /// It failed, and why: what only a leader does was not done, and to ask again is of no use.
    Failed(String),
    /// It may have been done, or may yet be; why nobody knows.
    Unsure(String),
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
            Self::Propose { id, command, by } => {
                6u8.encode(out);
                id.encode(out);
                command.encode(out);
                by.encode(out);
            }
            Self::ReadIndex => 7u8.encode(out),
            Self::Handover(to) => {
                8u8.encode(out);
                to.encode(out);
            }
            Self::Remove(node, by) => {
                9u8.encode(out);
                node.encode(out);
                by.encode(out);
            }
            Self::Records(bytes) => {
                10u8.encode(out);
                out.raw(bytes);
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
                command: Box::new(Command::decode(input)?),
                by: Option::decode(input)?,
            }),
            7 => Ok(Self::ReadIndex),
            8 => Ok(Self::Handover(Option::decode(input)?)),
            9 => Ok(Self::Remove(NodeId::decode(input)?, Option::decode(input)?)),
            10 => {
                let rest = input.left();
                Ok(Self::Records(Bytes::copy_from_slice(input.raw(rest)?)))
            }
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
            Self::Unsure(why) => {
                9u8.encode(out);
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
            9 => Ok(Self::Unsure(String::decode(input)?)),
            tag => Err(DecodeError::Tag {
                of: "response",
                tag,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::EntryPayload;
    use vipd_core::asker::{TokenId, Who};
    use vipd_core::command::Proposal;
    use vipd_core::id::Revision;
    use vipd_core::time::Millis;

    use super::*;
    use crate::types::{Entry, Member, Membership, Request as Logged, StoredMembership, log_id};

    fn requests() -> Vec<Request> {
        let member = Member {
            peer: "[2001:db8::1]:7400".parse().unwrap(),
        };
        let nodes = BTreeMap::from([(1, member), (9, member)]);
        let sets = vec![BTreeSet::from([1]), BTreeSet::from([1, 9])];
        let membership = Membership::new(sets, nodes).unwrap();
        let command = Command::RemoveNode {
            node: "n9".parse().unwrap(),
        };
        let asker = Some(Asker {
            node: NodeId(9),
            who: Who::Token {
                token: TokenId {
                    name: "ci".parse().unwrap(),
                    made: Revision(4),
                },
            },
        });
        let logged = Logged {
            id: 77,
            proposal: Proposal {
                at: Millis(5),
                command: command.clone(),
                by: asker.clone(),
            },
        };
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(logged),
            EntryPayload::Membership(membership.clone()),
        ];
        let entries = (5..).zip(payloads).map(|(index, payload)| Entry {
            log_id: log_id(3, index),
            payload,
        });
        let vote = Vote::new_committed(3, 1);
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(3, 8)),
            last_membership: StoredMembership::new(Some(log_id(3, 7)), membership),
        };
        vec![
            Request::Ping,
            Request::Append(AppendEntriesRequest {
                vote,
                prev_log_id: Some(log_id(2, 4)),
                entries: entries.collect(),
                leader_commit: None,
            }),
            Request::Vote(VoteRequest::new(Vote::new(4, 9), Some(log_id(3, 8)))),
            Request::PreVote(VoteRequest::new(Vote::new(4, 9), None)),
            Request::Snapshot {
                vote,
                meta,
                body: Bytes::from_static(b"body"),
            },
            Request::TransferLeader(TransferLeaderRequest::new(vote, 9, Some(log_id(3, 8)))),
            Request::Propose {
                id: 1 << 100,
                command: Box::new(command),
                by: asker.clone(),
            },
            Request::ReadIndex,
            Request::Handover(Some(NodeId(9))),
            Request::Remove(NodeId(9), asker),
        ]
    }

    #[test]
    fn every_request_survives_its_encoding_and_no_truncation_or_flip_of_it_panics() {
        for request in requests() {
            let bytes = request.to_bytes();
            let again = Request::from_bytes(&bytes).unwrap();
            assert_eq!(format!("{again:?}"), format!("{request:?}"));
            for at in 0..bytes.len() {
                drop(Request::from_bytes(&bytes[..at]));
                for bit in 0..8 {
                    let mut other = bytes.clone();
                    other[at] ^= 1 << bit;
                    drop(Request::from_bytes(&other));
                }
            }
        }
    }

    #[test]
    fn every_response_survives_its_encoding() {
        let vote = Vote::new(4, 9);
        let responses = [
            Response::Done,
            Response::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(3, 8)))),
            Response::Append(AppendEntriesResponse::Conflict),
            Response::Append(AppendEntriesResponse::HigherVote(vote)),
            Response::Vote(VoteResponse::new(vote, Some(log_id(3, 8)), true)),
            Response::Snapshot(vote),
            Response::TransferLeader(Ok(())),
            Response::Proposed(Err(vipd_core::rejection::Rejection::TokenExpired)),
            Response::ReadIndex(8),
            Response::NotLeader(Some(NodeId(9))),
            Response::Failed("why".into()),
            Response::Unsure("why".into()),
        ];
        for response in responses {
            let again = Response::from_bytes(&response.to_bytes()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{response:?}"));
        }
    }
}
