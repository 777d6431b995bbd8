//! The frames of an agent's stream.

use std::time::Duration;

use bytes::Bytes;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;

use super::pace::Pace;
use crate::raft_wire::{
    get_entry, get_opt_log_id, get_snapshot_meta, put_entry, put_opt_log_id, put_snapshot_meta,
};
use crate::types::{Entry, LogId, SnapshotMeta};

/// From the agent, once.
#[derive(Debug)]
pub(super) struct From {
    /// The last entry it has applied.
    pub(super) at: Option<LogId>,
    /// How often a quiet stream shall speak.
    pub(super) pace: Pace,
}

impl Wire for From {
    fn encode(&self, out: &mut Writer) {
        put_opt_log_id(self.at.as_ref(), out);
        let alive = self.pace.alive().as_millis();
        u32::try_from(alive).unwrap_or(u32::MAX).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = get_opt_log_id(input)?;
        let alive = u32::decode(input)?;
        let pace = Pace::every(Duration::from_millis(alive.into()));
        Ok(Self { at, pace })
    }
}

/// From the voter.
#[derive(Debug)]
pub(super) enum Feed {
    /// Start over from here.
    Snapshot { meta: SnapshotMeta, body: Bytes },
    /// Apply these next.
    Entries(Vec<Entry>),
    /// Still here; this node leads, with or without a majority.
    Alive {
        leader: Option<NodeId>,
        quorum: bool,
    },
}

impl Wire for Feed {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Snapshot { meta, body } => {
                0u8.encode(out);
                put_snapshot_meta(meta, out);
                out.raw(body);
            }
            Self::Entries(entries) => {
                1u8.encode(out);
                out.count(entries.len());
                for entry in entries {
                    put_entry(entry, out);
                }
            }
            Self::Alive { leader, quorum } => {
                2u8.encode(out);
                leader.encode(out);
                quorum.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => {
                let meta = get_snapshot_meta(input)?;
                Ok(Self::Snapshot {
                    meta,
                    body: Bytes::copy_from_slice(input.raw(input.left())?),
                })
            }
            1 => {
                let n = input.count()?;
                (0..n)
                    .map(|_| get_entry(input))
                    .collect::<Result<_, _>>()
                    .map(Self::Entries)
            }
            2 => Ok(Self::Alive {
                leader: Option::decode(input)?,
                quorum: bool::decode(input)?,
            }),
            tag => Err(DecodeError::Tag { of: "feed", tag }),
        }
    }
}
