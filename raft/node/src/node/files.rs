//! A voter's log and snapshots, opened together: a crash may leave them at odds, and openraft must not see that.

use std::path::Path;

use super::OpenError;
use crate::machine::SnapshotDir;
use crate::store::{Recovered, SledDisk};

/// What a voter has on disk.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) disk: SledDisk,
    pub(super) log: Recovered,
    pub(super) snapshots: SnapshotDir,
}

/// Opens the files in `dir`, and makes the log go on from the newest snapshot, which stays in memory until
/// [`SnapshotDir::release`]. Blocks.
///
/// # Errors
/// [`OpenError`] if they are damaged, or have lost what was acknowledged.
pub(super) fn open(dir: &Path) -> Result<Files, OpenError> {
    let (mut disk, mut log) = SledDisk::open(dir)?;
    let snapshots = SnapshotDir::open(dir.join("snapshots")).map_err(OpenError::Snapshot)?;
    let newest = snapshots.hold().map_err(OpenError::Snapshot)?;
    if let Some(last) = newest.and_then(|(meta, _body)| meta.last_log_id) {
        disk.go_on_from(&last, &mut log)?;
    }
    Ok(Files {
        disk,
        log,
        snapshots,
    })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
    use openraft::{EntryPayload, StorageHelper};
    use tempfile::TempDir;

    use super::*;
    use crate::machine::{Replica, Shared, StateMachine};
    use crate::store::{IoThread, LogStore, StoreError};
    use crate::types::{Entry, LogId, SnapshotMeta, log_id};

    fn blanks(term: u64, indexes: Range<u64>) -> Vec<Entry> {
        let blank = |index| Entry {
            log_id: log_id(term, index),
            payload: EntryPayload::Blank,
        };
        indexes.map(blank).collect()
    }

    /// A voter's files after a crash: this log, and a snapshot that ends with `last`.
    async fn crashed(log: Vec<Entry>, committed: Option<LogId>, last: LogId) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        SledDisk::create(dir.path()).unwrap();
        let files = open(dir.path()).unwrap();
        let io = IoThread::start(files.disk).unwrap();
        let mut store = LogStore::new(files.log, &io);
        store.blocking_append(log).await.unwrap();
        store.save_committed(committed).await.unwrap();
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            ..SnapshotMeta::default()
        };
        files
            .snapshots
            .save(&meta, &Replica::default().body())
            .unwrap();
        dir
    }

    /// What openraft finds when the voter starts: up to where the log is purged, the entries after that, the last one applied.
    async fn start(dir: &TempDir) -> (Option<LogId>, Vec<LogId>, Option<LogId>) {
        let files = open(dir.path()).unwrap();
        let io = IoThread::start(files.disk).unwrap();
        let mut store = LogStore::new(files.log, &io);
        let shared = Shared::default();
        let mut machine = StateMachine::new(shared.clone(), files.snapshots);
        StorageHelper::new(&mut store, &mut machine)
            .with_id(1)
            .get_initial_state()
            .await
            .unwrap();
        let purged = store.get_log_state().await.unwrap().last_purged_log_id;
        let entries = store.try_get_log_entries(0..).await.unwrap();
        let ids = entries.iter().map(|entry| entry.log_id).collect();
        let applied = shared.read().applied;
        (purged, ids, applied)
    }

    #[tokio::test]
    async fn a_snapshot_over_a_deposed_leaders_tail_that_a_crash_left_in_the_log_is_all_that_counts()
     {
        let tail = |term, indexes| [blanks(1, 0..3), blanks(term, indexes)].concat();
        for (log, last) in [
            // An earlier term: up to the snapshot's last entry, and past it.
            (tail(2, 3..6), log_id(4, 5)),
            (tail(2, 3..9), log_id(4, 5)),
            // A later term than the snapshot's last entry has: before it, up to it, and past it.
            (tail(6, 3..5), log_id(5, 9)),
            (tail(6, 3..10), log_id(5, 9)),
            (tail(6, 3..15), log_id(5, 9)),
            // The log ends before the snapshot.
            (blanks(1, 0..3), log_id(1, 9)),
        ] {
            let dir = crashed(log, Some(log_id(1, 2)), last).await;
            for life in 0..3 {
                let found = start(&dir).await;
                assert_eq!(found, (Some(last), vec![], Some(last)), "life {life}");
            }
        }
    }

    #[tokio::test]
    async fn a_log_that_holds_the_snapshots_last_entry_is_left_as_it_is() {
        let last = log_id(1, 4);
        let dir = crashed(blanks(1, 0..8), Some(log_id(1, 5)), last).await;
        let ids: Vec<_> = (0..8).map(|index| log_id(1, index)).collect();
        assert_eq!(start(&dir).await, (None, ids, Some(log_id(1, 5))));
    }

    #[tokio::test]
    async fn a_log_that_goes_on_from_a_snapshot_keeps_what_came_after_it() {
        let last = log_id(5, 9);
        let dir = crashed(blanks(6, 0..3), None, last).await;
        let files = open(dir.path()).unwrap();
        let io = IoThread::start(files.disk).unwrap();
        let mut store = LogStore::new(files.log, &io);
        store.blocking_append(blanks(7, 10..12)).await.unwrap();
        drop((store, io));
        let ids = vec![log_id(7, 10), log_id(7, 11)];
        assert_eq!(start(&dir).await, (Some(last), ids, Some(last)));
    }

    #[tokio::test]
    async fn a_voter_that_starts_reads_its_snapshot_once() {
        let last = log_id(1, 4);
        let dir = crashed(blanks(1, 0..8), Some(log_id(1, 5)), last).await;
        let files = open(dir.path()).unwrap();
        // Whoever reads again finds it damaged; and nothing is written beside what is newer.
        std::fs::write(dir.path().join("snapshots/99-9.snapshot"), b"damaged").unwrap();
        let snapshots = files.snapshots.clone();
        let io = IoThread::start(files.disk).unwrap();
        let mut store = LogStore::new(files.log, &io);
        let shared = Shared::default();
        let mut machine = StateMachine::new(shared.clone(), files.snapshots);
        let found = StorageHelper::new(&mut store, &mut machine)
            .with_id(1)
            .get_initial_state()
            .await
            .unwrap();
        assert_eq!(found.snapshot_meta.last_log_id, Some(last));
        assert_eq!(shared.read().applied, Some(log_id(1, 5)));
        snapshots.release();
        snapshots.load().unwrap_err();
    }

    #[tokio::test]
    async fn a_log_with_committed_entries_that_are_not_the_snapshots_is_damaged_and_left_as_it_is()
    {
        let dir = crashed(blanks(2, 0..9), Some(log_id(2, 7)), log_id(4, 5)).await;
        for _ in 0..2 {
            let error = open(dir.path()).unwrap_err();
            assert!(
                matches!(error, OpenError::Store(StoreError::Corrupt { .. })),
                "{error}"
            );
            assert!(error.to_string().contains("entry 5 of term 4"), "{error}");
        }
    }
}
