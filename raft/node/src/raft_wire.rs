//! openraft's types in vipd's own encoding, for the disk and for peers.
//!
//! Free functions in pairs, since both the types and the trait [`Wire`] belong to other crates.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use openraft::EntryPayload as Payload;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};

use crate::types::{
    Entry, EntryPayload, LogId, Member, Membership, Request, SnapshotMeta, StoredMembership, Vote,
    log_id, term_of,
};

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn put_log_id(id: &LogId, out: &mut Writer) {
    term_of(id).encode(out);
    id.index.encode(out);
}

pub(crate) fn get_log_id(input: &mut Reader<'_>) -> Result<LogId, DecodeError> {
    Ok(log_id(u64::decode(input)?, u64::decode(input)?))
}

pub(crate) fn put_opt_log_id(id: Option<&LogId>, out: &mut Writer) {
    id.is_some().encode(out);
    if let Some(id) = id {
        put_log_id(id, out);
    }
}

pub(crate) fn get_opt_log_id(input: &mut Reader<'_>) -> Result<Option<LogId>, DecodeError> {
    Ok(if bool::decode(input)? {
        Some(get_log_id(input)?)
    } else {
        None
    })
}

pub(crate) fn put_vote(vote: &Vote, out: &mut Writer) {
    vote.leader_id.term.encode(out);
    vote.leader_id.voted_for.encode(out);
    vote.committed.encode(out);
}

pub(crate) fn get_vote(input: &mut Reader<'_>) -> Result<Vote, DecodeError> {
    let mut vote = Vote::new(u64::decode(input)?, u64::decode(input)?);
    vote.committed = bool::decode(input)?;
    Ok(vote)
}

fn put_membership(membership: &Membership, out: &mut Writer) {
    membership.get_joint_config().clone().encode(out);
    let nodes: BTreeMap<u64, SocketAddr> = membership
        .nodes()
        .map(|(id, node)| (*id, node.peer))
        .collect();
    nodes.encode(out);
}

fn get_membership(input: &mut Reader<'_>) -> Result<Membership, DecodeError> {
    let sets = Vec::<BTreeSet<u64>>::decode(input)?;
    let nodes = BTreeMap::<u64, SocketAddr>::decode(input)?;
    let nodes: BTreeMap<u64, Member> = nodes
        .into_iter()
        .map(|(id, peer)| (id, Member { peer }))
        .collect();
    if sets.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(sets, nodes).map_err(|_| DecodeError::Invalid("membership"))
}

pub(crate) fn put_stored_membership(stored: &StoredMembership, out: &mut Writer) {
    put_opt_log_id(stored.log_id().as_ref(), out);
    put_membership(stored.membership(), out);
}

pub(crate) fn get_stored_membership(
    input: &mut Reader<'_>,
) -> Result<StoredMembership, DecodeError> {
    let id = get_opt_log_id(input)?;
    Ok(StoredMembership::new(id, get_membership(input)?))
}

pub(crate) fn put_payload(payload: &EntryPayload, out: &mut Writer) {
    match payload {
        Payload::Blank => BLANK.encode(out),
        Payload::Normal(request) => {
            NORMAL.encode(out);
            request.encode(out);
        }
        Payload::Membership(membership) => {
            MEMBERSHIP.encode(out);
            put_membership(membership, out);
        }
    }
}

pub(crate) fn get_payload(input: &mut Reader<'_>) -> Result<EntryPayload, DecodeError> {
    match u8::decode(input)? {
        BLANK => Ok(Payload::Blank),
        NORMAL => Ok(Payload::Normal(Request::decode(input)?)),
        MEMBERSHIP => Ok(Payload::Membership(get_membership(input)?)),
        tag => Err(DecodeError::Tag {
            of: "log entry",
            tag,
        }),
    }
}

pub(crate) fn put_entry(entry: &Entry, out: &mut Writer) {
    put_log_id(&entry.log_id, out);
    put_payload(&entry.payload, out);
}

pub(crate) fn get_entry(input: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    Ok(Entry {
        log_id: get_log_id(input)?,
        payload: get_payload(input)?,
    })
}

pub(crate) fn put_snapshot_meta(meta: &SnapshotMeta, out: &mut Writer) {
    put_opt_log_id(meta.last_log_id.as_ref(), out);
    put_stored_membership(&meta.last_membership, out);
}

pub(crate) fn get_snapshot_meta(input: &mut Reader<'_>) -> Result<SnapshotMeta, DecodeError> {
    Ok(SnapshotMeta {
        last_log_id: get_opt_log_id(input)?,
        last_membership: get_stored_membership(input)?,
    })
}

/// A byte string: its length, then the bytes at once (a `Vec<u8>` would go byte by byte).
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Writer) {
    out.count(bytes.len());
    out.raw(bytes);
}

pub(crate) fn get_bytes(input: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let n = input.count()?;
    Ok(input.raw(n)?.to_vec())
}
