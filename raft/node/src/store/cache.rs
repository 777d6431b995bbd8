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

    /// See [`following`].
    pub(crate) fn following(
        &self,
        after: Option<LogId>,
        upto: LogId,
        limit: usize,
    ) -> Option<Vec<Entry>> {
        let log = self.read();
        following(&log.entries, log.purged, after, upto, limit)
    }

    /// The epochs fenced durably, by node.
    pub(crate) fn fences(&self) -> BTreeMap<NodeId, Epoch> {
        self.read().fences.clone()
    }
}

/// Of a log that is purged up to `purged`: at most `limit` entries that follow `after`, up to `upto`, which is applied and later
/// than that. `None` if a snapshot is needed: the log no longer (or not yet) reaches back so far, or does not hold that very
/// entry, or not that one up to which they are asked for.
///
/// Where a snapshot was applied, what the log holds up to there may be another leader's, and never have been committed; it is
/// only where the log holds the applied entry itself that all before it are those that were applied.
#[must_use]
pub fn following(
    entries: &BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    after: Option<LogId>,
    upto: LogId,
    limit: usize,
) -> Option<Vec<Entry>> {
    let holds = |id: &LogId| {
        let entry = entries.get(&id.index);
        entry.is_some_and(|entry| entry.log_id == *id)
    };
    let known = match &after {
        None => purged.is_none(),
        Some(id) => purged == after || holds(id),
    };
    let from = after.map_or(0, |id| id.index + 1);
    (known && holds(&upto)).then(|| {
        let following = entries.range(from..=upto.index).take(limit);
        following.map(|(_, entry)| entry.clone()).collect()
    })
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
