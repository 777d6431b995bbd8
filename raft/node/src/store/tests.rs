//! openraft's own suite on both disks, and the store over many lives.

use std::io::ErrorKind;

use nix::fcntl::{Flock, FlockArg};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;
use vipd_core::id::{Epoch, NodeId};

use super::disk::Recovered;
use super::witness::Witness;
use super::{IoThread, LogStore, MemoryDisk, SledDisk, StoreError};
use crate::machine::{Shared, SnapshotDir, StateMachine};
use crate::types::{Entry, Types, Vote, log_id};

struct OnSled;
struct InMemory;

impl StoreBuilder<Types, LogStore, StateMachine, (IoThread, TempDir)> for OnSled {
    async fn build(
        &self,
    ) -> Result<((IoThread, TempDir), LogStore, StateMachine), openraft::StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (io, store) = open(&dir);
        let machine = machine(&dir);
        Ok(((io, dir), store, machine))
    }
}

impl StoreBuilder<Types, LogStore, StateMachine, (IoThread, TempDir)> for InMemory {
    async fn build(
        &self,
    ) -> Result<((IoThread, TempDir), LogStore, StateMachine), openraft::StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let io = IoThread::start(MemoryDisk::default()).unwrap();
        let store = LogStore::new(Recovered::default(), &io);
        let machine = machine(&dir);
        Ok(((io, dir), store, machine))
    }
}

fn machine(dir: &TempDir) -> StateMachine {
    StateMachine::new(
        Shared::default(),
        SnapshotDir::open(dir.path().join("snapshots")).unwrap(),
    )
}

fn open(dir: &TempDir) -> (IoThread, LogStore) {
    if !dir.path().join("log.witness").exists() {
        SledDisk::create(dir.path()).unwrap();
    }
    let (disk, recovered) = SledDisk::open(dir.path()).unwrap();
    let io = IoThread::start(disk).unwrap();
    let store = LogStore::new(recovered, &io);
    (io, store)
}

fn blanks(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes
        .map(|index| Entry {
            log_id: log_id(term, index),
            payload: EntryPayload::Blank,
        })
        .collect()
}

#[tokio::test]
async fn the_sled_store_passes_openrafts_suite() {
    Suite::test_all(OnSled).await.unwrap();
}

#[tokio::test]
async fn the_store_in_memory_passes_openrafts_suite() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_every_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..10u64 {
        let (io, mut store) = open(&dir);
        assert_eq!(
            store.get_log_state().await.unwrap().last_log_id,
            (life > 0).then(|| log_id(1, life * 10 - 1))
        );
        let vote = Vote::new(life + 1, 3);
        store.save_vote(&vote).await.unwrap();
        store
            .blocking_append(blanks(1, life * 10..life * 10 + 10))
            .await
            .unwrap();
        store
            .persist_fence(NodeId(7), Epoch(life + 1))
            .await
            .unwrap();
        store
            .save_committed(Some(log_id(1, life * 10 + 5)))
            .await
            .unwrap();
        drop((store, io));
        let (_io, mut store) = open(&dir);
        assert_eq!(
            store.get_log_reader().await.read_vote().await.unwrap(),
            Some(vote)
        );
        assert_eq!(
            store.shared().fences(),
            [(NodeId(7), Epoch(life + 1))].into()
        );
        assert_eq!(
            store.read_committed().await.unwrap(),
            Some(log_id(1, life * 10 + 5))
        );
    }
}

#[tokio::test]
async fn a_fence_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (io, store) = open(&dir);
    store.persist_fence(NodeId(7), Epoch(9)).await.unwrap();
    store.persist_fence(NodeId(7), Epoch(4)).await.unwrap();
    assert_eq!(store.shared().fences(), [(NodeId(7), Epoch(9))].into());
    drop((store, io));
    assert_eq!(
        open(&dir).1.shared().fences(),
        [(NodeId(7), Epoch(9))].into()
    );
}

#[tokio::test]
async fn an_agent_is_fed_no_entry_of_a_deposed_leader_that_lies_under_a_snapshot() {
    let io = IoThread::start(MemoryDisk::default()).unwrap();
    let mut store = LogStore::new(Recovered::default(), &io);
    store.blocking_append(blanks(1, 0..6)).await.unwrap();
    let log = store.shared();
    let after = Some(log_id(1, 2));
    let following = |upto, limit| {
        let entries = log.following(after, upto, limit)?;
        Some(entries.iter().map(|e| e.log_id.index).collect::<Vec<_>>())
    };
    assert_eq!(following(log_id(1, 4), 9), Some(vec![3, 4]));
    assert_eq!(following(log_id(1, 4), 1), Some(vec![3]));
    // A snapshot of a later term is applied, and the log is not yet cut.
    for upto in [log_id(2, 4), log_id(2, 5), log_id(2, 9)] {
        assert_eq!(following(upto, 9), None, "{upto}");
    }
}

#[tokio::test]
async fn truncation_and_purge_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..20)).await.unwrap();
    store.truncate_after(Some(log_id(1, 11))).await.unwrap();
    store.blocking_append(blanks(2, 12..15)).await.unwrap();
    store.purge(log_id(1, 4)).await.unwrap();
    drop((store, io));
    let (_io, mut store) = open(&dir);
    let state = store.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(log_id(1, 4)), Some(log_id(2, 14)))
    );
}

#[tokio::test]
async fn a_purge_that_covers_a_tail_of_a_later_term_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..3)).await.unwrap();
    store.blocking_append(blanks(6, 3..6)).await.unwrap();
    store.purge(log_id(5, 9)).await.unwrap();
    drop((store, io));
    let witness = Witness::open(&dir.path().join("log.witness")).unwrap();
    assert_eq!(witness.unwrap().tail().last, Some(log_id(5, 9)));
    let (io, mut store) = open(&dir);
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(5, 9)));
    store.blocking_append(blanks(7, 10..12)).await.unwrap();
    drop((store, io));
    let (_io, mut store) = open(&dir);
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(7, 11)));
}

#[tokio::test]
async fn a_longer_log_put_back_in_place_of_what_a_later_leader_made_of_it_is_refused_as_lost_data()
{
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..9)).await.unwrap();
    drop((store, io));
    copy(&dir.path().join("log"), &old.path().join("log"));
    let (io, mut store) = open(&dir);
    store.truncate_after(Some(log_id(1, 3))).await.unwrap();
    store.blocking_append(blanks(2, 4..6)).await.unwrap();
    drop((store, io));
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(&old.path().join("log"), &dir.path().join("log"));
    let error = SledDisk::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_store_put_back_from_an_old_copy_is_refused_as_lost_data() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..5)).await.unwrap();
    drop((store, io));
    copy(&dir.path().join("log"), &old.path().join("log"));
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 5..8)).await.unwrap();
    drop((store, io));
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(&old.path().join("log"), &dir.path().join("log"));
    let error = SledDisk::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("it ends at entry 4")
            && text.contains("entry 7")
            && text.contains("vipd join"),
        "{text}"
    );
}

#[tokio::test]
async fn an_emptied_store_is_refused_as_lost_data() {
    let dir = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..5)).await.unwrap();
    drop((store, io));
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    assert!(matches!(
        SledDisk::open(dir.path()),
        Err(StoreError::Lost { .. })
    ));
}

#[tokio::test]
async fn a_store_without_its_witness_is_not_trusted_and_an_absent_one_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..5)).await.unwrap();
    drop((store, io));
    std::fs::remove_file(dir.path().join("log.witness")).unwrap();
    assert!(matches!(
        SledDisk::open(dir.path()),
        Err(StoreError::Lost { .. })
    ));
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    assert!(matches!(
        SledDisk::open(dir.path()),
        Err(StoreError::Lost { .. })
    ));
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..500)).await.unwrap();
    drop((store, io));
    let db = dir.path().join("log/db");
    let whole = std::fs::read(&db).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for part in 1..10 {
        let mut bad = whole.clone();
        let at = used * part / 10;
        for byte in &mut bad[at..at + 16] {
            *byte ^= 0xff;
        }
        std::fs::write(&db, &bad).unwrap();
        if let Err(error) = SledDisk::open(dir.path()) {
            assert!(
                matches!(error, StoreError::Lost { .. } | StoreError::Corrupt { .. }),
                "{error}"
            );
            assert!(error.to_string().contains("vipd join"), "{error}");
            refused += 1;
        }
        std::fs::write(&db, &whole).unwrap();
    }
    assert!(refused >= 5, "only {refused} of 9 damages were noticed");
}

#[tokio::test]
async fn a_leftover_of_sleds_own_snapshot_does_not_keep_the_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let (io, mut store) = open(&dir);
    store.blocking_append(blanks(1, 0..5)).await.unwrap();
    drop((store, io));
    std::fs::write(
        dir.path().join("log/snap.00000000000000AA.generating"),
        b"half",
    )
    .unwrap();
    let (_io, mut store) = open(&dir);
    assert_eq!(
        store.get_log_state().await.unwrap().last_log_id,
        Some(log_id(1, 4))
    );
}

#[tokio::test]
async fn after_a_failed_flush_everybody_hears_the_reason_and_nothing_is_tried_again() {
    let io = IoThread::start(MemoryDisk {
        fail_after: Some(1),
    })
    .unwrap();
    let mut store = LogStore::new(Recovered::default(), &io);
    store.blocking_append(blanks(1, 0..1)).await.unwrap();
    let error = store.blocking_append(blanks(1, 1..2)).await.unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
    let error = store.save_vote(&Vote::new(1, 1)).await.unwrap_err();
    assert!(
        error.to_string().contains("failed earlier") && error.to_string().contains("disk is full"),
        "{error}"
    );
    let failed = io.failed().borrow().clone().unwrap();
    assert!(failed.contains("make room"), "{failed}");
}

#[tokio::test]
async fn appends_that_wait_share_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (_io, mut store) = open(&dir);
    let mut told = Vec::new();
    for index in 0..200 {
        let (tell, hears) = Types::oneshot();
        store
            .append(blanks(1, index..index + 1), IOFlushed::signal(tell))
            .await
            .unwrap();
        told.push(hears);
    }
    for hears in told {
        assert_eq!(
            hears.await.unwrap().map_err(|error| error.kind()),
            Ok::<_, ErrorKind>(())
        );
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_that_is_still_being_let_go_of_is_opened_as_soon_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let db = std::fs::File::open(dir.path().join("log/db")).unwrap();
    let held = std::thread::spawn({
        // Its own end lets sled's have gone first.
        let lock = loop {
            match Flock::lock(db.try_clone().unwrap(), FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err(_) => std::thread::yield_now(),
            }
        };
        move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            drop(lock);
        }
    });
    drop(open(&dir));
    held.join().unwrap();
}
