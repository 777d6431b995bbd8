//! The replica that openraft drives: vipd-raft's own, watched by the judge.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use vipd_raft::parts::{
    Entry, EntryPayload, LogId, Replica, Reply, Snapshot, SnapshotMeta, StoredMembership,
};

use super::Types;
use crate::bell::Bell;
use crate::disk::{Disk, Op};
use crate::judge::Judge;
use crate::lock;
use crate::mutant::Mutant;
use crate::net::HostId;

/// The most entries applied before readers get a turn.
const BATCH: usize = 64;

/// The replica of one process, and who is told when it changes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    host: HostId,
    replica: Arc<Mutex<Replica>>,
    /// Rings when entries were applied.
    pub(crate) news: Bell,
    judge: Arc<Judge>,
    mutant: Mutant,
}

impl Shared {
    /// An empty replica on `host`.
    #[must_use]
    pub(crate) fn new(host: HostId, judge: Arc<Judge>, mutant: Mutant) -> Self {
        Self {
            host,
            replica: Arc::default(),
            news: Bell::default(),
            judge,
            mutant,
        }
    }

    /// The replica, held still.
    pub(crate) fn read(&self) -> MutexGuard<'_, Replica> {
        lock(&self.replica)
    }

    /// The index of the last entry applied.
    #[must_use]
    pub(crate) fn applied(&self) -> u64 {
        self.read().applied.map_or(0, |id| id.index)
    }

    /// Applies the next entry.
    pub(crate) fn apply(&self, entry: &Entry) -> Reply {
        let mut replica = self.read();
        let outcome = match &self.own_clock(entry) {
            Some(entry) => replica.apply(entry),
            None => replica.apply(entry),
        };
        self.judge
            .applied(self.host, &replica, entry, outcome.as_ref());
        Reply(outcome)
    }

    /// Under the mutant of that name, the entry with this host's own time in it.
    fn own_clock(&self, entry: &Entry) -> Option<Entry> {
        let mut entry = (self.mutant == Mutant::OwnClock).then(|| entry.clone())?;
        if let EntryPayload::Normal(request) = &mut entry.payload {
            request.proposal.at.0 += self.host.0 as u64;
        }
        Some(entry)
    }

    /// Starts over from a snapshot.
    ///
    /// # Errors
    /// If it does not decode.
    pub(crate) fn restore(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), String> {
        let restored = Replica::restore(meta, body).map_err(|error| error.to_string())?;
        self.judge.restored(self.host, &restored);
        *self.read() = restored;
        Ok(())
    }
}

/// openraft's view of it.
#[derive(Clone)]
pub(crate) struct Machine {
    shared: Shared,
    disk: Arc<Disk>,
}

impl Machine {
    /// Over `shared`, with snapshots on `disk`.
    #[must_use]
    pub(crate) fn new(shared: Shared, disk: Arc<Disk>) -> Self {
        Self { shared, disk }
    }
}

/// A view of the replica, taken at once, written at leisure.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    body: Bytes,
    disk: Arc<Disk>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, snapshot) = (self.meta.clone(), self.body.clone());
        let op = Op::Snapshot(Box::new(meta.clone()), snapshot.clone());
        self.disk.push_and_wait(op).await?;
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let replica = self.shared.read();
        Ok((replica.applied, replica.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
            let apply = |(entry, responder)| (self.shared.apply(&entry), responder);
            let answers: Vec<_> = batch.into_iter().map(apply).collect();
            self.shared.news.ring();
            for (reply, responder) in answers {
                if let Some(responder) = responder {
                    responder.send(reply);
                }
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let replica = self.shared.read();
        Builder {
            meta: replica.meta(),
            body: replica.body(),
            disk: self.disk.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let op = Op::Snapshot(Box::new(meta.clone()), snapshot.clone());
        self.disk.push_and_wait(op).await?;
        self.shared
            .restore(meta, &snapshot)
            .map_err(io::Error::other)?;
        self.shared.news.ring();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let found = self.disk.snapshot();
        Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
