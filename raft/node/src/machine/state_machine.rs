//! openraft's view of the state machine.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::{Replica, Shared, SnapshotDir};
use crate::types::{LogId, Reply, Snapshot, SnapshotMeta, StoredMembership, Types};

/// The most entries applied before readers and watchers get a turn.
const BATCH: usize = 64;
/// With more addresses than this, work on the state takes milliseconds.
const LARGE: usize = 1_000;

/// The replica that openraft drives, and where its snapshots go.
#[derive(Clone, Debug)]
pub(crate) struct StateMachine {
    shared: Shared,
    dir: SnapshotDir,
}

/// A view of the replica, taken at once, written at leisure.
#[derive(Debug)]
pub(crate) struct Builder {
    meta: SnapshotMeta,
    body: Bytes,
    dir: SnapshotDir,
}

impl StateMachine {
    pub(crate) fn new(shared: Shared, dir: SnapshotDir) -> Self {
        Self { shared, dir }
    }

    /// Does work that may take long while the executor's thread, of which there may be but one, goes on with the rest: a
    /// leader that says nothing meanwhile would be replaced.
    fn aside<T>(&self, work: impl FnOnce(&Shared) -> T) -> T {
        let large = self.shared.read().state.allocations().len() > LARGE;
        if large && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            block_in_place(|| work(&self.shared))
        } else {
            work(&self.shared)
        }
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        save(&self.dir, &self.meta, &self.body).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: self.body.clone(),
        })
    }
}

impl RaftStateMachine<Types> for StateMachine {
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
            let answers = self.aside(|shared| {
                shared.write(|replica| {
                    let apply = |(entry, responder)| (replica.apply(&entry), responder);
                    batch.into_iter().map(apply).collect::<Vec<_>>()
                })
            });
            self.shared.announce();
            for (outcome, responder) in answers {
                if let Some(responder) = responder {
                    responder.send(Reply(outcome));
                }
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (meta, body) = self.aside(|shared| {
            let replica = shared.read();
            (replica.meta(), replica.body())
        });
        Builder {
            meta,
            body,
            dir: self.dir.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let restored = Replica::restore(meta, &snapshot).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the snapshot is unreadable: {error}"),
            )
        })?;
        save(&self.dir, meta, &snapshot).await?;
        self.shared.write(|replica| *replica = restored);
        self.shared.announce();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let dir = self.dir.clone();
        let found = blocking(move || dir.load()).await?;
        Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

async fn save(dir: &SnapshotDir, meta: &SnapshotMeta, body: &Bytes) -> io::Result<()> {
    let (dir, meta, body) = (dir.clone(), meta.clone(), body.clone());
    blocking(move || dir.save(&meta, &body)).await
}

/// Disk work off the executor's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
