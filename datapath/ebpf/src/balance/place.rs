//! A half of a flow where it lies in the map.

use core::mem::MaybeUninit;
use core::sync::atomic::{Ordering, compiler_fence};

use vipd_datapath_common::AddressKey;
use vipd_datapath_common::balance::{Flow, FlowKey, Half, Progress};

/// A half of a flow that was just looked up. The kernel may use the place for another one in the same moment: what is
/// read of it counts only if [`Place::flow`] says whose it is.
#[derive(Clone, Copy)]
pub struct Place(pub *mut Half);

// SAFETY of all that follows: the memory is that of some element of FLOWS until the end of the RCU read
// section in which a program runs. Fields are aligned, nobody reads them in halves, and any bytes are a value.
impl Place {
    /// A copy of the flow in `copy`; `None` if the place has become that of another one. First the copy, then the proof: the kernel
    /// writes the proof of another one before the rest of it.
    #[inline(always)]
    pub fn flow<'a>(self, key: &FlowKey, copy: &'a mut MaybeUninit<Flow>) -> Option<&'a Flow> {
        unsafe {
            copy.as_mut_ptr()
                .copy_from_nonoverlapping(&raw const (*self.0).flow, 1)
        };
        compiler_fence(Ordering::Acquire);
        let proof = unsafe { (&raw const (*self.0).proof).read_volatile() };
        (proof == key.proof()).then(|| unsafe { copy.assume_init_ref() })
    }

    /// Whether it is, or was a moment ago, the place of this key.
    #[inline(always)]
    pub fn is_of(self, key: &FlowKey) -> bool {
        unsafe { (&raw const (*self.0).proof).read_volatile() == key.proof() }
    }

    /// See [`Flow::source`]. Whose it is has still to be asked.
    #[inline(always)]
    pub fn source(self) -> AddressKey {
        unsafe { (&raw const (*self.0).flow.source).read() }
    }

    /// See [`Flow::flags`].
    #[inline(always)]
    pub fn flags(self) -> u32 {
        unsafe { (&raw const (*self.0).flow.flags).read() }
    }

    /// See [`Flow::progress`].
    #[inline(always)]
    pub fn progress(self) -> Progress {
        unsafe { (&raw const (*self.0).flow.progress).read() }
    }

    /// A packet passes. Two CPUs that see the same flow may lose a count; `TALLY` does not.
    #[inline(always)]
    pub fn saw(self, now: u64, packets: u64, bytes: u64) {
        unsafe {
            let flow = &raw mut (*self.0).flow;
            (&raw mut (*flow).seen).write_volatile(now);
            let sum = (&raw const (*flow).packets).read_volatile();
            (&raw mut (*flow).packets).write_volatile(sum.wrapping_add(packets));
            let sum = (&raw const (*flow).bytes).read_volatile();
            (&raw mut (*flow).bytes).write_volatile(sum.wrapping_add(bytes));
        }
    }

    /// Sets a mark of its progress.
    #[inline(always)]
    pub fn mark(self, mark: Mark) {
        unsafe {
            let progress = &raw mut (*self.0).flow.progress;
            let mark = match mark {
                Mark::Established => &raw mut (*progress).established,
                Mark::Fin => &raw mut (*progress).fin,
                Mark::PeerFin => &raw mut (*progress).peer_fin,
                Mark::Reset => &raw mut (*progress).reset,
            };
            mark.write_volatile(1);
        }
    }
}

/// The marks of [`Progress`].
pub enum Mark {
    Established,
    Fin,
    PeerFin,
    Reset,
}
