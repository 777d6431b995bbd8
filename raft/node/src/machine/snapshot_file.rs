//! Snapshots as plain files: written aside, fsynced, renamed, the directory fsynced. One is kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};

use crate::raft_wire::{get_snapshot_meta, put_snapshot_meta};
use crate::types::{SnapshotMeta, term_of};

const MAGIC: u32 = 0x7669_7053; // "vipS"
const SUFFIX: &str = ".snapshot";

/// The directory of this node's snapshots.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    /// One is written or read at a time: one that this node makes, and one that it is sent, can come together, and each takes
    /// away the older ones, which somebody may just be reading.
    turn: Arc<Mutex<Held>>,
}

/// The newest one, while it is held in memory: see [`SnapshotDir::hold`].
type Held = Option<(SnapshotMeta, Bytes)>;

impl SnapshotDir {
    /// Uses, or makes, `dir`, and removes what a crash left half written.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir).map_err(|error| on("make", &dir, &error))?;
        let turn = Arc::default();
        let dir = Self { dir, turn };
        for path in dir.files(".new")? {
            fs::remove_file(&path).map_err(|error| on("remove", &path, &error))?;
        }
        Ok(dir)
    }

    /// Keeps this snapshot in place of every older one; does nothing if there is a newer one: the log may be gone up to that
    /// by now. Durable when it returns. Blocks.
    pub(crate) fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> io::Result<()> {
        let mut held = self.turn();
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let term = meta.last_log_id.map_or(0, |id| term_of(&id));
        let path = self.dir.join(format!("{index}-{term}{SUFFIX}"));
        let newer = |path: &PathBuf| index_of(path).is_some_and(|other| other > index);
        if self.files(SUFFIX)?.iter().any(newer) {
            return Ok(());
        }
        if matches!(&*held, Some((held, _)) if held.last_log_id != meta.last_log_id) {
            *held = None;
        }
        let aside = path.with_extension("new");
        let mut head = Writer::new();
        put_snapshot_meta(meta, &mut head);
        let head = head.finish();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), body);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(&MAGIC.to_be_bytes())?;
            file.write_all(&crc.to_be_bytes())?;
            file.write_all(&head)?;
            file.write_all(body)?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| on("write", &path, &error))?;
        for old in self.files(SUFFIX)?.into_iter().filter(|old| *old != path) {
            fs::remove_file(&old).map_err(|error| on("remove", &old, &error))?;
        }
        Ok(())
    }

    /// The newest snapshot, if there is one. A damaged one is an error: the log before it is gone. Blocks.
    pub(crate) fn load(&self) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
        let held = self.turn();
        match &*held {
            Some(held) => Ok(Some(held.clone())),
            None => self.read(),
        }
    }

    /// The same, and it stays in memory until [`SnapshotDir::release`]: a node that starts asks for it several times, and it may
    /// be of a hundred megabytes. Blocks.
    pub(crate) fn hold(&self) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
        let mut held = self.turn();
        *held = self.read()?;
        Ok(held.clone())
    }

    /// The node has started: what is asked for from now on is read from the disk.
    pub(crate) fn release(&self) {
        *self.turn() = None;
    }

    fn turn(&self) -> MutexGuard<'_, Held> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
        let mut newest: Option<(SnapshotMeta, Bytes)> = None;
        for path in self.files(SUFFIX)? {
            let bytes = fs::read(&path).map_err(|error| on("read", &path, &error))?;
            let found = decode(bytes.into()).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "the snapshot {} is damaged: {error}. Next: remove this node from the cluster, move its \
                         data directory away and `vipd join` again as a new member",
                        path.display()
                    ),
                )
            })?;
            if newest
                .as_ref()
                .is_none_or(|(meta, _)| meta.last_log_id < found.0.last_log_id)
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }

    fn files(&self, suffix: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|error| on("read", &self.dir, &error))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

/// The last entry in the snapshot of this name.
fn index_of(path: &Path) -> Option<u64> {
    let (index, _term) = path.file_stem()?.to_str()?.split_once('-')?;
    index.parse().ok()
}

fn decode(bytes: Bytes) -> Result<(SnapshotMeta, Bytes), DecodeError> {
    let mut input = Reader::new(&bytes);
    let (magic, crc) = (u32::decode(&mut input)?, u32::decode(&mut input)?);
    if magic != MAGIC {
        return Err(DecodeError::Invalid("first four bytes"));
    }
    if crc32c::crc32c(&bytes[8..]) != crc {
        return Err(DecodeError::Invalid("checksum"));
    }
    let meta = get_snapshot_meta(&mut input)?;
    let body = bytes.slice(bytes.len() - input.left()..);
    Ok((meta, body))
}

fn on(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot {what} {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: Some(log_id(3, index)),
            ..SnapshotMeta::default()
        }
    }

    #[test]
    fn the_newest_snapshot_replaces_the_older() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(temp.path().join("snapshots")).unwrap();
        assert!(dir.load().unwrap().is_none());
        dir.save(&meta(5), b"five").unwrap();
        dir.save(&meta(9), b"nine").unwrap();
        let (found, body) = dir.load().unwrap().unwrap();
        assert_eq!((found, &body[..]), (meta(9), &b"nine"[..]));
        assert_eq!(dir.files(SUFFIX).unwrap().len(), 1);
    }

    #[test]
    fn one_that_was_begun_earlier_and_ends_later_does_not_replace_a_newer_one() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(temp.path().join("snapshots")).unwrap();
        dir.save(&meta(9), b"nine").unwrap();
        dir.clone().save(&meta(5), b"five").unwrap();
        assert_eq!(dir.load().unwrap().unwrap().0, meta(9));
        assert_eq!(dir.files(SUFFIX).unwrap().len(), 1);
        dir.save(&meta(10), b"ten").unwrap();
        assert_eq!(dir.load().unwrap().unwrap().0, meta(10));
    }

    #[test]
    fn one_can_be_read_while_others_take_its_place() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(temp.path().join("snapshots")).unwrap();
        dir.save(&meta(1), b"body").unwrap();
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                for index in 2..=200 {
                    dir.save(&meta(index), b"body").unwrap();
                }
            });
            let mut last = Some(log_id(3, 1));
            while !writer.is_finished() {
                let (found, body) = dir.load().unwrap().unwrap();
                assert_eq!(&body[..], b"body");
                assert!(found.last_log_id >= last, "{found:?} after {last:?}");
                last = found.last_log_id;
            }
        });
        assert_eq!(dir.load().unwrap().unwrap().0, meta(200));
    }

    #[test]
    fn one_that_is_held_is_read_once_and_gives_way_to_a_newer_one() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(temp.path().join("snapshots")).unwrap();
        dir.save(&meta(5), b"five").unwrap();
        let damage = |dir: &SnapshotDir| {
            let path = dir.files(SUFFIX).unwrap().remove(0);
            fs::write(path, b"x").unwrap();
        };
        assert_eq!(dir.hold().unwrap().unwrap().0, meta(5));
        damage(&dir);
        assert_eq!(&dir.load().unwrap().unwrap().1[..], b"five", "not read");
        // As a node that starts does with what it was given.
        dir.clone().save(&meta(5), b"five").unwrap();
        damage(&dir);
        assert_eq!(&dir.load().unwrap().unwrap().1[..], b"five", "not read");
        dir.save(&meta(9), b"nine").unwrap();
        assert_eq!(&dir.load().unwrap().unwrap().1[..], b"nine");
        dir.hold().unwrap();
        dir.release();
        damage(&dir);
        dir.load().unwrap_err();
    }

    #[test]
    fn a_damaged_snapshot_is_refused_with_the_next_step() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(temp.path().to_path_buf()).unwrap();
        dir.save(&meta(5), b"five").unwrap();
        let path = dir.files(SUFFIX).unwrap().remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = dir.load().unwrap_err().to_string();
        assert!(
            error.contains("is damaged") && error.contains("vipd join"),
            "{error}"
        );
    }

    #[test]
    fn a_half_written_snapshot_is_removed_at_start() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("7-1.new"), b"half").unwrap();
        let dir = SnapshotDir::open(temp.path().to_path_buf()).unwrap();
        assert!(dir.files(".new").unwrap().is_empty());
        assert!(dir.load().unwrap().is_none());
    }
}
