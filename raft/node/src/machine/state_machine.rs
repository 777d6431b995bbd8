//! openraft's view of the state machine.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use vipd_core::command::Command;

use super::{Replica, Shared, SnapshotDir};
use crate::types::{Entry, LogId, Reply, Snapshot, SnapshotMeta, StoredMembership, Types};

/// The most entries applied before readers and watchers get a turn.
const BATCH: usize = 64;
/// With more addresses than this, work on the state takes milliseconds.
const LARGE: usize = 1_000;

/// A snapshot is due when there are as many entries since the last one as an eighth of the addresses and VIPs (and as
/// many as the settings say): a state of 100,000 would otherwise be written over and over while it is filled. So each
/// entry pays for writing a few objects, however many there are, and the log stays shorter than the state.
const OBJECTS_PER_ENTRY: u64 = 8;

/// The replica that openraft drives, and where its snapshots go.
#[derive(Clone, Debug)]
pub(crate) struct StateMachine {
    shared: Shared,
    dir: SnapshotDir,
    /// The last entry in the newest snapshot that was begun.
    begun: u64,
}

/// A copy of the replica, taken at once, encoded and written at leisure.
#[derive(Debug)]
pub(crate) struct Builder {
    replica: Arc<Replica>,
    dir: SnapshotDir,
}

impl StateMachine {
    pub(crate) fn new(shared: Shared, dir: SnapshotDir) -> Self {
        let begun = 0;
        Self { shared, dir, begun }
    }

    /// Whether so much was applied since the last snapshot that a new one is worth its writing.
    fn is_due(&self) -> bool {
        let replica = self.shared.read();
        let (vips, addresses) = (replica.state.vips(), replica.state.allocations());
        let objects = (vips.len() + addresses.len()) as u64;
        let entries = replica.state.applied().saturating_sub(self.begun);
        entries >= objects / OBJECTS_PER_ENTRY
    }

    /// Does work that may take long while the executor's thread, of which there may be but one, goes on with the rest: a
    /// leader that says nothing meanwhile would be replaced.
    fn aside<T>(&self, heavy: bool, work: impl FnOnce(&Shared) -> T) -> T {
        let large = heavy || self.shared.read().state.allocations().len() > LARGE;
        if large && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            block_in_place(|| work(&self.shared))
        } else {
            work(&self.shared)
        }
    }
}

/// Whether an entry is much work even while there is little in the state.
fn is_heavy(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Normal(request) => {
            matches!(request.proposal.command, Command::Restore { .. })
        }
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (replica, dir) = (Arc::clone(&self.replica), self.dir.clone());
        blocking(move || {
            let (meta, snapshot) = (replica.meta(), replica.body());
            dir.save(&meta, &snapshot)?;
            Ok(Snapshot { meta, snapshot })
        })
        .await
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
            let heavy = batch.iter().any(|(entry, _)| is_heavy(entry));
            let answers = self.aside(heavy, |shared| {
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

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let asked = self.shared.take_snapshot_request();
        if force || asked || self.is_due() {
            return Some(self.get_snapshot_builder().await);
        }
        None
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Objects are shared by copies: that takes a fraction of what encoding them takes, and entries wait for it.
        let replica = self.aside(false, |shared| shared.read().clone());
        self.begun = replica.state.applied();
        Builder {
            replica: Arc::new(replica),
            dir: self.dir.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let (dir, meta) = (self.dir.clone(), meta.clone());
        // Of a large state that takes a second, in which everything else of Raft goes on.
        let restored = blocking(move || {
            let restored = Replica::restore(&meta, &snapshot).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the snapshot is unreadable: {error}"),
                )
            })?;
            dir.save(&meta, &snapshot)?;
            Ok(restored)
        })
        .await?;
        self.begun = restored.state.applied();
        let old = self
            .shared
            .write(|replica| std::mem::replace(replica, restored));
        self.shared.announce();
        blocking(move || {
            drop(old);
            Ok(())
        })
        .await?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let dir = self.dir.clone();
        let found = blocking(move || dir.load()).await?;
        Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Disk work off the executor's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
