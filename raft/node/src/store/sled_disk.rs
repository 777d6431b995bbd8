//! The log on sled 0.34.7, inside the rules that make it safe.
//!
//! sled's own flush is `sync_file_range` on Linux, which a power cut undoes, so durable means here: flush,
//! then `fdatasync` of sled's `db` file through a descriptor of our own, then the witness. sled never flushes
//! by itself. A leftover `snap.*.generating` would keep it from ever opening again, so it goes first.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::{Epoch, NodeId};

use super::StoreError;
use super::disk::{Disk, Op, Recovered};
use super::record;
use super::verify::{Fault, show, verify};
use super::witness::{Tail, Witness};
use crate::raft_wire::{
    get_log_id, get_opt_log_id, get_vote, put_log_id, put_opt_log_id, put_vote,
};
use crate::types::LogId;

const CACHE: u64 = 4 * 1024 * 1024;
/// The witness's name in the data directory.
const WITNESS: &str = "log.witness";
/// How long sled's threads may take to let go of a store that this process has just closed.
const LET_GO: Duration = Duration::from_secs(5);
const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
const COMMITTED: &[u8] = b"committed";
const FENCE: &[u8] = b"fence/";

/// An open store: sled, our descriptor of its file, the witness.
#[derive(Debug)]
pub(crate) struct SledDisk {
    path: PathBuf,
    db: sled::Db,
    log: sled::Tree,
    meta: sled::Tree,
    file: File,
    witness: Witness,
    tail: Tail,
}

impl SledDisk {
    /// Marks `dir` as one that will hold a store. Done once, before the node exists: from then on a store or a
    /// witness that is missing has been lost, and is not made anew under the same number.
    pub(crate) fn create(dir: &Path) -> Result<(), StoreError> {
        Witness::create(&dir.join(WITNESS))?;
        sync_dir(dir)
    }

    /// Takes back [`SledDisk::create`] in a directory that never became a node.
    pub(crate) fn abandon(dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(WITNESS);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Opens the store in `dir`/log, with its witness beside it, and checks it whole.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Recovered), StoreError> {
        let path = dir.join("log");
        let Some(witness) = Witness::open(&dir.join(WITNESS))? else {
            let what = format!("its witness {WITNESS} is missing, so nobody knows how far it was");
            return Err(StoreError::Lost { path, what });
        };
        remove_leftovers(&path)?;
        let db = open_sled(&path)?;
        let tree = |name: &str| {
            db.open_tree(name)
                .map_err(|error| from_sled("open", &path, error))
        };
        let (log, meta) = (tree("log")?, tree("meta")?);
        let db_file = path.join("db");
        let file = File::options()
            .write(true)
            .open(&db_file)
            .map_err(StoreError::io("open", &db_file))?;
        sync_dir(&path)?;
        sync_dir(dir)?;
        let mut disk = Self {
            path,
            db,
            log,
            meta,
            file,
            witness,
            tail: Tail::default(),
        };
        let recovered = disk.load()?;
        disk.tail = Tail {
            last: recovered.last(),
            purged: recovered.purged,
            vote: recovered.vote,
            fenced: recovered
                .fences
                .values()
                .map(|epoch| epoch.0)
                .max()
                .unwrap_or(0),
        };
        Ok((disk, recovered))
    }

    /// Makes the log go on from `snapshot`, the last entry in the newest snapshot, where it does not yet. Durable when it
    /// returns.
    ///
    /// A snapshot that a leader has sent is written beside the log's queue. After a crash it may be there and the log not
    /// yet cut: without its last entry, and with the tail of a deposed leader up to it, or past it. No entry of that log is
    /// needed: up to the snapshot's last they are in it or were never committed, and after one that was not committed
    /// none is. openraft mends this by itself only where the log ends before the snapshot by index *and* by term.
    pub(crate) fn go_on_from(
        &mut self,
        snapshot: &LogId,
        log: &mut Recovered,
    ) -> Result<(), StoreError> {
        if log.reaches(snapshot) {
            return Ok(());
        }
        if log.committed.is_some_and(|id| id.index > snapshot.index) {
            return Err(self.damaged(format!(
                "{} is committed by it, and it has not {}, the last one of the newest snapshot",
                show(log.committed),
                show(Some(*snapshot))
            )));
        }
        let after = log.purged;
        tracing::info!(
            from = show(log.last()),
            to = show(Some(*snapshot)),
            "the log was not cut where its snapshot ends; it is now"
        );
        self.commit(&[Op::Truncate { after }, Op::Purge(*snapshot)])?;
        log.entries.clear();
        log.purged = Some(*snapshot);
        Ok(())
    }

    fn load(&self) -> Result<Recovered, StoreError> {
        let mut found = self.read_meta()?;
        for item in self.log.iter() {
            let (key, value) = item.map_err(|error| from_sled("read", &self.path, error))?;
            let index =
                u64::from_bytes(&key).map_err(|error| self.damaged(format!("a key {error}")))?;
            // A purge that a crash cut short: the marker is written first.
            if found.purged.is_some_and(|purged| index <= purged.index) {
                self.log
                    .remove(&key)
                    .map_err(|error| from_sled("purge", &self.path, error))?;
                continue;
            }
            let entry = record::decode(&value)
                .map_err(|what| self.damaged(format!("entry {index}: {what}")))?;
            found.entries.insert(index, entry);
        }
        verify(&found, self.witness.tail()).map_err(|fault| match fault {
            Fault::Damaged(what) => self.damaged(what),
            Fault::Behind(what) => StoreError::Lost {
                path: self.path.clone(),
                what,
            },
        })?;
        Ok(found)
    }

    fn read_meta(&self) -> Result<Recovered, StoreError> {
        let mut found = Recovered::default();
        for item in self.meta.iter() {
            let (key, value) = item.map_err(|error| from_sled("read", &self.path, error))?;
            let fault = |error: DecodeError| {
                self.damaged(format!("{}: {error}", String::from_utf8_lossy(&key)))
            };
            let mut input = Reader::new(&value);
            match &*key {
                VOTE => found.vote = Some(get_vote(&mut input).map_err(fault)?),
                PURGED => found.purged = Some(get_log_id(&mut input).map_err(fault)?),
                COMMITTED => found.committed = get_opt_log_id(&mut input).map_err(fault)?,
                key if key.starts_with(FENCE) => {
                    let node = NodeId::from_bytes(&key[FENCE.len()..]).map_err(fault)?;
                    found
                        .fences
                        .insert(node, Epoch::decode(&mut input).map_err(fault)?);
                }
                _ => {
                    return Err(self.damaged(format!(
                        "a key `{}` of no known kind",
                        String::from_utf8_lossy(&key)
                    )));
                }
            }
        }
        Ok(found)
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            what,
        }
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), StoreError> {
        let result = match op {
            Op::Append(entries) => {
                let mut batch = sled::Batch::default();
                for entry in entries {
                    batch.insert(&entry.log_id.index.to_be_bytes(), record::encode(entry));
                }
                self.tail.last = entries.last().map(|entry| entry.log_id).or(self.tail.last);
                self.log.apply_batch(batch)
            }
            Op::Truncate { after } => return self.truncate(after.as_ref()),
            Op::Purge(upto) => return self.purge(upto),
            Op::Vote(vote) => {
                self.tail.vote = Some(*vote);
                self.meta
                    .insert(VOTE, with(|out| put_vote(vote, out)))
                    .map(drop)
            }
            Op::Committed(id) => self
                .meta
                .insert(COMMITTED, with(|out| put_opt_log_id(id.as_ref(), out)))
                .map(drop),
            Op::Fence(node, epoch) => {
                self.tail.fenced = self.tail.fenced.max(epoch.0);
                let key = [FENCE, &node.0.to_be_bytes()].concat();
                let fenced = self.meta.fetch_and_update(key, |old| {
                    let old = old
                        .and_then(|old| Epoch::from_bytes(old).ok())
                        .unwrap_or_default();
                    Some((*epoch).max(old).to_bytes())
                });
                fenced.map(drop)
            }
        };
        result.map_err(|error| from_sled("write", &self.path, error))
    }

    /// Lowers the witness durably *before* the tail goes, or a crash in between would look like lost data.
    fn truncate(&mut self, after: Option<&LogId>) -> Result<(), StoreError> {
        let keep = after.map_or(0, |id| id.index + 1);
        let mut batch = sled::Batch::default();
        let mut none = true;
        for key in self.log.range(keep.to_be_bytes()..).keys() {
            batch.remove(key.map_err(|error| from_sled("read", &self.path, error))?);
            none = false;
        }
        if none {
            return Ok(());
        }
        self.tail.last = after.copied().or(self.tail.purged);
        // What came before in this group must not be ahead of the witness's other fields.
        self.sync_store()?;
        self.witness.see(&self.tail)?;
        self.log
            .apply_batch(batch)
            .map_err(|error| from_sled("truncate", &self.path, error))
    }

    fn purge(&mut self, upto: &LogId) -> Result<(), StoreError> {
        let fail = |error| from_sled("purge", &self.path, error);
        self.meta
            .insert(PURGED, with(|out| put_log_id(upto, out)))
            .map_err(fail)?;
        let mut batch = sled::Batch::default();
        for key in self.log.range(..=upto.index.to_be_bytes()).keys() {
            batch.remove(key.map_err(fail)?);
        }
        self.log.apply_batch(batch).map_err(fail)?;
        self.tail.purged = Some(*upto);
        // By index: a snapshot of an earlier term may cover a tail of a later one that was never committed.
        let beyond = self.tail.last.filter(|last| last.index > upto.index);
        self.tail.last = beyond.or(Some(*upto));
        Ok(())
    }

    fn sync_store(&self) -> Result<(), StoreError> {
        self.db
            .flush()
            .map_err(|error| from_sled("flush", &self.path, error))?;
        self.file
            .sync_data()
            .map_err(StoreError::io("flush", &self.path.join("db")))
    }
}

impl Disk for SledDisk {
    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        guarded(&self.path.clone(), || {
            for op in ops {
                self.carry_out(op)?;
            }
            if ops.iter().any(Op::must_be_durable) {
                self.sync_store()?;
                self.witness.see(&self.tail)?;
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        guarded(&self.path.clone(), || self.sync_store())
    }
}

fn with(put: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    put(&mut out);
    out.finish()
}

/// Waits until nobody has locked sled's file. No other process has: the data directory's own lock comes before. But whoever
/// closes a store and opens it again, as tests and programs that vipd is part of do, may be faster than sled's threads, which
/// hold the file until what they were doing is done; and sled itself does not wait.
fn let_go(path: &Path) -> Result<(), StoreError> {
    let db = path.join("db");
    let deadline = Instant::now() + LET_GO;
    loop {
        let file = match File::open(&db) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(StoreError::io("open", &db))?,
        };
        // Unlocked again as it is dropped.
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() || Instant::now() >= deadline
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, StoreError> {
    let_go(path)?;
    guarded(path, || {
        sled::Config::new()
            .path(path)
            .flush_every_ms(None)
            .cache_capacity(CACHE)
            .open()
            .map_err(|error| from_sled("open", path, error))
    })
}

/// sled panics on some damage; that is an error of the store here, not the end of the process.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(StoreError::Corrupt {
            path: path.to_path_buf(),
            what: format!("sled gave up: {text}"),
        })
    })
}

fn from_sled(what: &'static str, path: &Path, error: sled::Error) -> StoreError {
    let path = path.to_path_buf();
    match error {
        sled::Error::Io(source) => StoreError::Io { what, path, source },
        other => StoreError::Corrupt {
            path,
            what: other.to_string(),
        },
    }
}

fn remove_leftovers(path: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::io("read", path))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("snap.")
            && name.to_string_lossy().ends_with(".generating")
        {
            fs::remove_file(entry.path()).map_err(StoreError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Makes the names in `dir` durable.
fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io("sync", dir))
}
