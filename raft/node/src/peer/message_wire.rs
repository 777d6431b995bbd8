//! The openraft parts of [`super::message`], in vipd's own encoding.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};

use crate::raft_wire::{
    get_entry, get_opt_log_id, get_snapshot_meta, get_vote, put_entry, put_opt_log_id,
    put_snapshot_meta, put_vote,
};
use crate::types::{SnapshotMeta, Types, Vote};

pub(super) fn put_append(rpc: &AppendEntriesRequest<Types>, out: &mut Writer) {
    put_vote(&rpc.vote, out);
    put_opt_log_id(rpc.prev_log_id.as_ref(), out);
    put_opt_log_id(rpc.leader_commit.as_ref(), out);
    out.count(rpc.entries.len());
    for entry in &rpc.entries {
        put_entry(entry, out);
    }
}

pub(super) fn get_append(
    input: &mut Reader<'_>,
) -> Result<AppendEntriesRequest<Types>, DecodeError> {
    let (vote, prev_log_id, leader_commit) = (
        get_vote(input)?,
        get_opt_log_id(input)?,
        get_opt_log_id(input)?,
    );
    let n = input.count()?;
    let entries = (0..n).map(|_| get_entry(input)).collect::<Result<_, _>>()?;
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

pub(super) fn put_appended(reply: &AppendEntriesResponse<Types>, out: &mut Writer) {
    match reply {
        AppendEntriesResponse::Success => 0u8.encode(out),
        AppendEntriesResponse::PartialSuccess(matching) => {
            1u8.encode(out);
            put_opt_log_id(matching.as_ref(), out);
        }
        AppendEntriesResponse::Conflict => 2u8.encode(out),
        AppendEntriesResponse::HigherVote(vote) => {
            3u8.encode(out);
            put_vote(vote, out);
        }
    }
}

pub(super) fn get_appended(
    input: &mut Reader<'_>,
) -> Result<AppendEntriesResponse<Types>, DecodeError> {
    match u8::decode(input)? {
        0 => Ok(AppendEntriesResponse::Success),
        1 => get_opt_log_id(input).map(AppendEntriesResponse::PartialSuccess),
        2 => Ok(AppendEntriesResponse::Conflict),
        3 => get_vote(input).map(AppendEntriesResponse::HigherVote),
        tag => Err(DecodeError::Tag {
            of: "append reply",
            tag,
        }),
    }
}

pub(super) fn put_vote_request(rpc: &VoteRequest<Types>, out: &mut Writer) {
    put_vote(&rpc.vote, out);
    put_opt_log_id(rpc.last_log_id.as_ref(), out);
    rpc.leadership_transfer.encode(out);
}

pub(super) fn get_vote_request(input: &mut Reader<'_>) -> Result<VoteRequest<Types>, DecodeError> {
    let mut rpc = VoteRequest::new(get_vote(input)?, get_opt_log_id(input)?);
    rpc.leadership_transfer = bool::decode(input)?;
    Ok(rpc)
}

pub(super) fn put_vote_response(reply: &VoteResponse<Types>, out: &mut Writer) {
    put_vote(&reply.vote, out);
    reply.vote_granted.encode(out);
    put_opt_log_id(reply.last_log_id.as_ref(), out);
}

pub(super) fn get_vote_response(
    input: &mut Reader<'_>,
) -> Result<VoteResponse<Types>, DecodeError> {
    let (vote, vote_granted) = (get_vote(input)?, bool::decode(input)?);
    Ok(VoteResponse {
        vote,
        vote_granted,
        last_log_id: get_opt_log_id(input)?,
    })
}

pub(super) fn put_snapshot(vote: &Vote, meta: &SnapshotMeta, body: &Bytes, out: &mut Writer) {
    put_vote(vote, out);
    put_snapshot_meta(meta, out);
    out.raw(body);
}

/// Takes the rest of the input: a snapshot is the last part of a frame.
pub(super) fn get_snapshot(
    input: &mut Reader<'_>,
) -> Result<(Vote, SnapshotMeta, Bytes), DecodeError> {
    let (vote, meta) = (get_vote(input)?, get_snapshot_meta(input)?);
    Ok((vote, meta, Bytes::copy_from_slice(input.raw(input.left())?)))
}

pub(super) fn put_transfer(rpc: &TransferLeaderRequest<Types>, out: &mut Writer) {
    put_vote(rpc.from_leader(), out);
    rpc.to_node_id().encode(out);
    put_opt_log_id(rpc.last_log_id(), out);
}

pub(super) fn get_transfer(
    input: &mut Reader<'_>,
) -> Result<TransferLeaderRequest<Types>, DecodeError> {
    Ok(TransferLeaderRequest::new(
        get_vote(input)?,
        u64::decode(input)?,
        get_opt_log_id(input)?,
    ))
}

pub(super) fn put_transferred(reply: &TransferLeaderResponse<Types>, out: &mut Writer) {
    match reply {
        Ok(()) => 0u8.encode(out),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            1u8.encode(out);
            put_vote(expected, out);
            put_vote(actual, out);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            2u8.encode(out);
            put_opt_log_id(expected.as_ref(), out);
            put_opt_log_id(actual.as_ref(), out);
        }
    }
}

pub(super) fn get_transferred(
    input: &mut Reader<'_>,
) -> Result<TransferLeaderResponse<Types>, DecodeError> {
    Ok(match u8::decode(input)? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged {
            expected: get_vote(input)?,
            actual: get_vote(input)?,
        }),
        2 => {
            let (expected, actual) = (get_opt_log_id(input)?, get_opt_log_id(input)?);
            Err(TransferLeaderError::LogNotFlushed { expected, actual })
        }
        tag => {
            return Err(DecodeError::Tag {
                of: "transfer reply",
                tag,
            });
        }
    })
}
