//! The seam under the log: what a store must be able to do. One real implementation (sled), one in memory.

use std::collections::BTreeMap;

use vipd_core::id::{Epoch, NodeId};

use super::StoreError;
use crate::types::{Entry, LogId, Vote};

/// One change to the log, in the order in which openraft asked for it.
#[derive(Debug)]
pub(crate) enum Op {
    /// Entries that follow the last one.
    Append(Vec<Entry>),
    /// Drop every entry after this one; all of them if `None`.
    Truncate { after: Option<LogId> },
    /// Drop every entry up to and including this one; a snapshot covers them.
    Purge(LogId),
    /// The vote of this node.
    Vote(Vote),
    /// The last entry known to be committed: a hint for the next start, which may come late.
    Committed(Option<LogId>),
    /// The epoch of a node that this voter has promised never to support again.
    Fence(NodeId, Epoch),
}

impl Op {
    /// Whether somebody may be told that it happened, so that it has to survive a power cut.
    pub(crate) fn must_be_durable(&self) -> bool {
        !matches!(self, Self::Committed(_))
    }
}

/// What a store holds when it is opened.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) fences: BTreeMap<NodeId, Epoch>,
}

impl Recovered {
    /// The last log id: of the last entry, or else the purged one.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries
            .last_key_value()
            .map(|(_, entry)| entry.log_id)
            .or(self.purged)
    }

    /// Whether it holds that very entry, or is purged up to it or further.
    pub(super) fn reaches(&self, id: &LogId) -> bool {
        let purged = self.purged.is_some_and(|purged| purged.index >= id.index);
        purged
            || self
                .entries
                .get(&id.index)
                .is_some_and(|entry| entry.log_id == *id)
    }
}

/// A place that keeps the log. Used by one thread at a time; may block.
pub(crate) trait Disk: Send + 'static {
    /// Carries out `ops` in order. If any of them must be durable, all are when this returns.
    ///
    /// An error is final: the store is not used again, since nobody can know what a failed flush has kept.
    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError>;

    /// Makes everything durable that [`Disk::commit`] left to be done later.
    fn settle(&mut self) -> Result<(), StoreError>;
}
