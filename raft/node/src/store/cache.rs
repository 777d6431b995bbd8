//! The log in memory: what every reader reads.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vipd_core::id::{Epoch, NodeId};

use super::disk::Recovered;
use crate::types::{Entry, LogId};

/// The log and the small facts beside it, shared by openraft, its replication tasks and the feeds of agents.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLog(Arc<RwLock<Recovered>>);

impl SharedLog {
    pub(super) fn new(recovered: Recovered) -> Self {
        Self(Arc::new(RwLock::new(recovered)))
    }

    // A poisoned lock means that a thread panicked between two assignments of plain values; each of these
    // sections is one assignment or a read, so the data are whole.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Recovered> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Recovered> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of `range`, in order.
    pub(super) fn entries(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        if is_empty(&range) {
            return Vec::new();
        }
        self.read()
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// At most `limit` entries that follow `after`; `None` if the log no longer (or not yet) reaches back
    /// so far or does not hold that very entry, so that a snapshot is needed.
    pub(crate) fn following(&self, after: Option<LogId>, limit: usize) -> Option<Vec<Entry>> {
        let log = self.read();
        let known = match &after {
            None => log.purged.is_none(),
            Some(id) if log.purged.as_ref() == Some(id) => true,
            Some(id) => log
                .entries
                .get(&id.index)
                .is_some_and(|entry| entry.log_id == *id),
        };
        let from = after.map_or(0, |id| id.index + 1);
        known.then(|| {
            log.entries
                .range(from..)
                .take(limit)
                .map(|(_, entry)| entry.clone())
                .collect()
        })
    }

    /// The epochs fenced durably, by node.
    pub(crate) fn fences(&self) -> BTreeMap<NodeId, Epoch> {
        self.read().fences.clone()
    }
}

/// Whether nothing can lie in `range`; `BTreeMap::range` panics when the start is past the end.
fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    let start = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match range.end_bound() {
        Bound::Included(end) => start > *end,
        Bound::Excluded(end) => start >= *end,
        Bound::Unbounded => false,
    }
}
