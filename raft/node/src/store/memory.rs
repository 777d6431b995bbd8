//! A disk that keeps nothing: the log lives as long as its cache. For tests of everything above the store.

use super::StoreError;
use super::disk::{Disk, Op};

/// The in-memory twin of the sled store. Can be told to fail, as a full disk would.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    /// How many commits succeed before one fails; `None` for all.
    pub(crate) fail_after: Option<usize>,
}

impl Disk for MemoryDisk {
    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        if !ops.iter().any(Op::must_be_durable) {
            return Ok(());
        }
        match &mut self.fail_after {
            Some(0) => Err(StoreError::Io {
                what: "flush",
                path: "memory".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            }),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
