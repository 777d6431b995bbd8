//! Reads a hash map with few system calls: BPF_MAP_LOOKUP_BATCH (since Linux 5.6), which aya has no name for.

use std::{
    collections::BTreeMap,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya::Pod;

use super::sys::bpf;

const MAP_LOOKUP_BATCH: i32 = 24;
/// Elements read at a time. The kernel reads whole buckets, so it must be more than any of them holds.
pub(super) const AT_ONCE: usize = 4_096;

/// `union bpf_attr` for BPF_MAP_*_BATCH, as in linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    cursor_in: u64,
    cursor_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A reading of a whole map, part by part. Elements that come or go meanwhile may be missed or, if the map grows
/// meanwhile, be given twice.
pub(super) struct Reading<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
    /// The bucket to go on with.
    cursor: Option<[u32; 2]>,
    ended: bool,
}

impl<K: Pod, V: Pod> Reading<K, V> {
    /// From the beginning.
    pub(super) fn new() -> Self {
        // SAFETY: a `Pod` is plain data, of which any bytes are a value.
        let (key, value) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Self {
            keys: vec![key; AT_ONCE],
            values: vec![value; AT_ONCE],
            cursor: None,
            ended: false,
        }
    }

    /// The next part; `None` at the end.
    pub(super) fn next<'a>(
        &'a mut self,
        map: BorrowedFd<'_>,
    ) -> io::Result<Option<impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V>>> {
        if self.ended {
            return Ok(None);
        }
        let before = self.cursor;
        let mut after = [0u32; 2];
        let mut attr = BatchAttr {
            cursor_in: before.as_ref().map_or(0, |cursor| cursor.as_ptr() as u64),
            cursor_out: after.as_mut_ptr() as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: AT_ONCE as u32,
            map: map.as_raw_fd().cast_unsigned(),
            ..BatchAttr::default()
        };
        // The kernel writes `count` keys and values at most, of the sizes that the map has: those of `K` and `V`, as
        // the loader has checked. Any bytes are a `Pod`.
        match bpf(MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => self.cursor = Some(after),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => self.ended = true,
            Err(error) => return Err(error),
        }
        let count = (attr.count as usize).min(AT_ONCE);
        Ok(Some(self.keys.iter().zip(&self.values).take(count)))
    }
}

/// A map as a whole.
pub(super) fn read<K: Pod + Ord, V: Pod>(map: BorrowedFd<'_>) -> io::Result<BTreeMap<K, V>> {
    let mut all = BTreeMap::new();
    let mut reading = Reading::new();
    while let Some(part) = reading.next(map)? {
        all.extend(part.map(|(key, value): (&K, &V)| (*key, *value)));
    }
    Ok(all)
}
