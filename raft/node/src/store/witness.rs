//! The tail witness: a small file beside the store that remembers how far the store had promised to be.
//!
//! Two slots, each in a 4 KiB page of its own so that a torn write can spoil only one, written in turn and
//! synced *after* the store. So at any crash the witness is at most as new as the store; a store that is
//! older than its witness has lost acknowledged data. Before a truncation the witness is lowered first.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};

use super::StoreError;
use crate::raft_wire::{get_opt_log_id, get_vote, put_opt_log_id, put_vote};
use crate::types::{LogId, Vote};

const PAGE: u64 = 4096;
const MAGIC: u32 = 0x7669_7054; // "vipT"

/// How far the store had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) last: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) vote: Option<Vote>,
    /// The highest epoch fenced.
    pub(super) fenced: u64,
}

/// The open witness file.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    path: PathBuf,
    seq: u64,
    tail: Tail,
}

impl Witness {
    /// The witness at `path`, with what it saw; `None` if there is no such file.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", path)(error)),
        };
        let newest = (0..2)
            .filter_map(|slot| read_slot(&file, slot))
            .max_by_key(|(seq, _)| *seq);
        let Some((seq, tail)) = newest else {
            return Err(StoreError::Corrupt {
                path: path.to_path_buf(),
                what: "neither slot of the witness is readable".into(),
            });
        };
        Ok(Some(Self {
            file,
            path: path.to_path_buf(),
            seq,
            tail,
        }))
    }

    /// Makes a witness that has seen nothing. The caller syncs the directory.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io("create", path))?;
        let mut witness = Self {
            file,
            path: path.to_path_buf(),
            seq: 0,
            tail: Tail::default(),
        };
        witness.write(&Tail::default())?;
        witness.write(&Tail::default())?;
        Ok(witness)
    }

    /// What it last saw.
    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Notes `tail` durably, unless that is what it saw already.
    pub(super) fn see(&mut self, tail: &Tail) -> Result<(), StoreError> {
        if *tail == self.tail {
            Ok(())
        } else {
            self.write(tail)
        }
    }

    fn write(&mut self, tail: &Tail) -> Result<(), StoreError> {
        self.seq += 1;
        let mut page = encode(self.seq, tail);
        page.resize(PAGE as usize, 0);
        self.file
            .write_all_at(&page, (self.seq % 2) * PAGE)
            .and_then(|()| self.file.sync_data())
            .map_err(StoreError::io("write", &self.path))?;
        self.tail = tail.clone();
        Ok(())
    }
}

fn encode(seq: u64, tail: &Tail) -> Vec<u8> {
    let mut body = Writer::new();
    seq.encode(&mut body);
    put_opt_log_id(tail.last.as_ref(), &mut body);
    put_opt_log_id(tail.purged.as_ref(), &mut body);
    tail.vote.is_some().encode(&mut body);
    if let Some(vote) = &tail.vote {
        put_vote(vote, &mut body);
    }
    tail.fenced.encode(&mut body);
    let body = body.finish();
    let mut out = Writer::new();
    MAGIC.encode(&mut out);
    crc32c::crc32c(&body).encode(&mut out);
    out.count(body.len());
    out.raw(&body);
    out.finish()
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Tail)> {
    let mut page = vec![0; PAGE as usize];
    file.read_exact_at(&mut page, slot * PAGE).ok()?;
    decode(&page).ok().flatten()
}

fn decode(page: &[u8]) -> Result<Option<(u64, Tail)>, DecodeError> {
    let mut input = Reader::new(page);
    let (magic, crc) = (u32::decode(&mut input)?, u32::decode(&mut input)?);
    let n = input.count()?;
    let body = input.raw(n)?;
    if magic != MAGIC || crc32c::crc32c(body) != crc {
        return Ok(None);
    }
    let mut body = Reader::new(body);
    let seq = u64::decode(&mut body)?;
    let last = get_opt_log_id(&mut body)?;
    let purged = get_opt_log_id(&mut body)?;
    let vote = if bool::decode(&mut body)? {
        Some(get_vote(&mut body)?)
    } else {
        None
    };
    Ok(Some((
        seq,
        Tail {
            last,
            purged,
            vote,
            fenced: u64::decode(&mut body)?,
        },
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    #[test]
    fn a_torn_write_of_one_slot_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        let mut witness = Witness::create(&path).unwrap();
        let tail = |index| Tail {
            last: Some(log_id(1, index)),
            ..Tail::default()
        };
        for index in 0..7 {
            witness.see(&tail(index)).unwrap();
        }
        let newest = witness.seq % 2;
        assert_eq!(Witness::open(&path).unwrap().unwrap().tail(), &tail(6));
        witness
            .file
            .write_all_at(&[0xff; 40], newest * PAGE + 8)
            .unwrap();
        assert_eq!(Witness::open(&path).unwrap().unwrap().tail(), &tail(5));
        witness
            .file
            .write_all_at(&[0xff; 40], (1 - newest) * PAGE + 8)
            .unwrap();
        assert!(matches!(
            Witness::open(&path),
            Err(StoreError::Corrupt { .. })
        ));
    }
}
