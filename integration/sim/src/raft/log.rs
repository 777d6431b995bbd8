//! The log: a cache to read from, the simulated disk to write to. The twin of `vipd_raft`'s.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use vipd_core::id::{Epoch, NodeId};
use vipd_raft::parts::{Entry, LogId, Vote, decode_record, following};

use super::Types;
use crate::disk::{Disk, Notice, Op, Platter};
use crate::lock;

/// The most entries handed out at once.
const READ: u64 = 1024;

/// The log of one process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    cache: Arc<Mutex<Cache>>,
    disk: Arc<Disk>,
}

#[derive(Default)]
struct Cache {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    fences: BTreeMap<NodeId, Epoch>,
}

impl LogStore {
    /// The log that `disk` holds.
    ///
    /// # Errors
    /// If a record does not decode: the codec and the encoder disagree.
    pub(crate) fn open(disk: Arc<Disk>, found: Platter) -> Result<Self, String> {
        let decoded = found.entries.iter().map(|(index, record)| {
            let entry = decode_record(record).map_err(|why| format!("entry {index}: {why}"))?;
            Ok((*index, entry))
        });
        let cache = Cache {
            entries: decoded.collect::<Result<_, String>>()?,
            purged: found.purged,
            vote: found.vote,
            committed: found.committed,
            fences: found.fences,
        };
        Ok(Self {
            cache: Arc::new(Mutex::new(cache)),
            disk,
        })
    }

    /// The fences that were on disk, and those written since.
    #[must_use]
    pub(crate) fn fences(&self) -> BTreeMap<NodeId, Epoch> {
        lock(&self.cache).fences.clone()
    }

    /// Forgets what was fenced: a planted fault.
    pub(crate) fn forget_fences(&self) {
        lock(&self.cache).fences.clear();
    }

    /// Forgets what was voted: a planted fault.
    pub(crate) fn forget_vote(&self) {
        lock(&self.cache).vote = None;
    }

    /// Records that `epoch` of `node` is never supported again. Durable when it returns.
    ///
    /// # Errors
    /// If the disk failed.
    pub(crate) async fn persist_fence(&self, node: NodeId, epoch: Epoch) -> io::Result<()> {
        if lock(&self.cache)
            .fences
            .get(&node)
            .is_some_and(|fenced| *fenced >= epoch)
        {
            return Ok(());
        }
        self.disk.push_and_wait(Op::Fence(node, epoch)).await?;
        let fences = &mut lock(&self.cache).fences;
        let fenced = fences.entry(node).or_insert(epoch);
        *fenced = epoch.max(*fenced);
        Ok(())
    }

    /// See [`following`].
    #[must_use]
    pub(crate) fn following(
        &self,
        after: Option<LogId>,
        upto: LogId,
        limit: usize,
    ) -> Option<Vec<Entry>> {
        let log = lock(&self.cache);
        following(&log.entries, log.purged, after, upto, limit)
    }

    /// All that follow `after`, whether or not they are what was applied: a planted fault.
    pub(crate) fn following_blindly(
        &self,
        after: Option<LogId>,
        limit: usize,
    ) -> Option<Vec<Entry>> {
        let log = lock(&self.cache);
        let (_, last) = log.entries.last_key_value()?;
        if after.is_some_and(|after| after.index >= last.log_id.index) {
            return None;
        }
        following(&log.entries, log.purged, after, last.log_id, limit)
    }

    fn entries(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        let start = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end {
            return Vec::new();
        }
        let log = lock(&self.cache);
        log.entries
            .range(start..end)
            .map(|(_, entry)| entry.clone())
            .collect()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.entries(range))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(lock(&self.cache).vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.entries(start..end.min(start.saturating_add(READ))))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let log = lock(&self.cache);
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: last.or(log.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.disk.push_and_wait(Op::Vote(*vote)).await?;
        lock(&self.cache).vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        lock(&self.cache).committed = committed;
        self.disk.push(Op::Committed(committed), Notice::Nobody);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(lock(&self.cache).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let cached = entries
            .iter()
            .map(|entry| (entry.log_id.index, entry.clone()));
        lock(&self.cache).entries.extend(cached);
        self.disk.push(Op::Append(entries), Notice::Raft(callback));
        Ok(())
    }

    async fn truncate_after(&mut self, after: Option<LogId>) -> Result<(), io::Error> {
        let keep = after.map_or(0, |id| id.index + 1);
        lock(&self.cache).entries.split_off(&keep);
        self.disk.push(Op::Truncate(after), Notice::Nobody);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut log = lock(&self.cache);
            if log.purged >= Some(upto) {
                return Ok(());
            }
            log.entries = log.entries.split_off(&(upto.index + 1));
            log.purged = Some(upto);
        }
        self.disk.push(Op::Purge(upto), Notice::Nobody);
        Ok(())
    }
}
