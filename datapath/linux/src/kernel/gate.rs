//! The node's deadline, mapped into memory.

use std::{
    ffi::c_void,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use aya::maps::{Map, MapData, MapError};
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    time::{ClockId, clock_gettime},
};
use vipd_datapath_common::name;

use crate::{DatapathError, NodeGate};

/// CLOCK_BOOTTIME in nanoseconds: the clock of all deadlines. It counts on during suspend.
#[must_use]
pub fn boottime_ns() -> u64 {
    // Cannot fail: the clock exists since Linux 2.6.39 and the pointer is ours.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
    })
}

/// One page that holds the only element of `GATE`.
struct Page {
    deadline: NonNull<AtomicU64>,
}

const LENGTH: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

// SAFETY: the page is shared memory that is only touched through the atomic; it lives until Drop.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `Deadline::new` with this length, and nobody holds a reference any more.
        let _ = unsafe { munmap(self.deadline.cast::<c_void>(), LENGTH.get()) };
    }
}

/// The deadline and whether this daemon may move it yet.
#[derive(Clone)]
pub(crate) struct Deadline {
    page: Arc<Page>,
    armed: Arc<AtomicBool>,
}

impl Deadline {
    /// Maps the map `GATE`.
    pub(crate) fn new(map: &Map) -> Result<Self, DatapathError> {
        let Map::Array(data) = map else {
            return Err(DatapathError::Incomplete { what: "map GATE" });
        };
        let pointer = map_page(data).map_err(|source| DatapathError::Map {
            doing: "map the deadline into memory".to_owned(),
            map: name::GATE,
            source: MapError::IoError(source.into()),
        })?;
        Ok(Self {
            page: Arc::new(Page {
                deadline: pointer.cast(),
            }),
            armed: Arc::default(),
        })
    }

    /// From now on deadlines take effect.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// The deadline in the kernel.
    pub(crate) fn deadline_ns(&self) -> u64 {
        self.atomic().load(Ordering::SeqCst)
    }

    /// Silence at once, and until [`Self::arm`].
    pub(crate) fn shut(&self) {
        self.armed.store(false, Ordering::SeqCst);
        self.atomic().store(0, Ordering::SeqCst);
    }

    fn atomic(&self) -> &AtomicU64 {
        // SAFETY: the element is eight bytes at the start of a page that is mapped while `self`
        // lives; programs of the kernel read it with one load.
        unsafe { self.page.deadline.as_ref() }
    }
}

fn map_page(data: &MapData) -> nix::Result<NonNull<c_void>> {
    // SAFETY: a new shared mapping at an address of the kernel's choice; the map is of one page
    // at least and was created with BPF_F_MMAPABLE (the loader checked a pinned one).
    unsafe {
        mmap(
            None,
            LENGTH,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
            data.fd().as_fd(),
            0,
        )
    }
}

impl NodeGate for Deadline {
    fn set_deadline(&mut self, boottime_ns: u64) {
        if !self.armed.load(Ordering::SeqCst) {
            return;
        }
        self.atomic().store(boottime_ns, Ordering::SeqCst);
        // `shut` came in between: one of the two zeroes is the last word.
        if !self.armed.load(Ordering::SeqCst) {
            self.atomic().store(0, Ordering::SeqCst);
        }
    }

    fn deadline(&self) -> u64 {
        self.deadline_ns()
    }
}
