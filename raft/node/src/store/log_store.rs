//! openraft's view of the log.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use vipd_core::id::{Epoch, NodeId};

use super::SharedLog;
use super::disk::{Op, Recovered};
use super::io_thread::{IoThread, Notify, Queue};
use crate::types::{Entry, LogId, Types, Vote};

/// The most entries handed out at once, so that one reply stays small.
const READ: u64 = 1024;

/// The log: a cache to read from, a queue to write to. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    log: SharedLog,
    queue: Queue,
}

impl LogStore {
    /// The log that holds `recovered` and is kept by `io`.
    pub(crate) fn new(recovered: Recovered, io: &IoThread) -> Self {
        Self {
            log: SharedLog::new(recovered),
            queue: io.queue(),
        }
    }

    /// The log for readers outside openraft.
    pub(crate) fn shared(&self) -> SharedLog {
        self.log.clone()
    }

    /// Records that `epoch` of `node` is never supported again. Durable when it returns.
    pub(crate) async fn persist_fence(&self, node: NodeId, epoch: Epoch) -> io::Result<()> {
        if self
            .log
            .read()
            .fences
            .get(&node)
            .is_some_and(|fenced| *fenced >= epoch)
        {
            return Ok(());
        }
        self.queue.push_and_wait(Op::Fence(node, epoch)).await?;
        let fences = &mut self.log.write().fences;
        let fenced = fences.entry(node).or_insert(epoch);
        *fenced = epoch.max(*fenced);
        Ok(())
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.log.entries(range))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.read().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.log.entries(start..end.min(start.saturating_add(READ))))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let log = self.log.read();
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: log.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.queue.push_and_wait(Op::Vote(*vote)).await?;
        self.log.write().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.write().committed = committed;
        self.queue.push(Op::Committed(committed), Notify::Nobody);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.read().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.log.write().entries.extend(
            entries
                .iter()
                .map(|entry| (entry.log_id.index, entry.clone())),
        );
        self.queue
            .push(Op::Append(entries), Notify::Openraft(callback));
        Ok(())
    }

    async fn truncate_after(&mut self, after: Option<LogId>) -> Result<(), io::Error> {
        let keep = after.map_or(0, |id| id.index + 1);
        self.log.write().entries.split_off(&keep);
        // Nobody is told that it is durable before the append that follows it in the same queue.
        self.queue.push(Op::Truncate { after }, Notify::Nobody);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut log = self.log.write();
            if log.purged >= Some(upto) {
                return Ok(());
            }
            log.entries = log.entries.split_off(&(upto.index + 1));
            log.purged = Some(upto);
        }
        self.queue.push(Op::Purge(upto), Notify::Nobody);
        Ok(())
    }
}
