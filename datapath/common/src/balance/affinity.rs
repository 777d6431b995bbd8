//! The maps `AFFINITY` and `MEMBERS`: which backend a client is kept with, and who may keep one.

use crate::AddressKey;

/// The key of `AFFINITY`: a client of a service with [`super::service_flags::BY_CLIENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffinityKey {
    /// Its address. That of the virtual IP itself stands for all programs of this host.
    pub client: AddressKey,
    /// [`super::Service::id`].
    pub service: u32,
}

/// The value of `AFFINITY`. The map forgets by itself what nobody has asked for longest, once it is full: then the table chooses, as it
/// does for who is new.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// When the client's newest connection began (CLOCK_BOOTTIME ns). Before the host did, where another node told of it: then it wraps
    /// around.
    pub seen: u64,
    /// [`super::Backend::id`].
    pub backend: u32,
    /// Explicitly zero.
    pub reserved: u32,
}

impl Affinity {
    /// How long ago its newest connection began, ns; less than nothing where that is told by another CPU's newer clock.
    #[inline(always)]
    #[must_use]
    pub const fn age(&self, now: u64) -> i64 {
        now.wrapping_sub(self.seen).cast_signed()
    }

    /// Whether a service that waits for `timeout_ms` still keeps the client. At the time-out to the ns it does not.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, timeout_ms: u32, now: u64) -> bool {
        self.age(now) < timeout_ms as i64 * 1_000_000
    }
}

/// The key of `MEMBERS`: a backend takes new connections by a table. Those that drain, are down or cannot be reached are in
/// `BACKENDS`, and no members. Its value says nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its number in `TABLES`.
    pub table: u32,
    /// Its number in `BACKENDS`.
    pub backend: u32,
}

const _: () = assert!(size_of::<AffinityKey>() == 16 + 4 && align_of::<AffinityKey>() == 4);
const _: () = assert!(size_of::<Affinity>() == 8 + 4 + 4);
const _: () = assert!(size_of::<Member>() == 8);

// SAFETY: `repr(C)`, integers and byte arrays only, and the sizes asserted above leave no padding; in all three.
#[cfg(feature = "user")]
unsafe impl aya::Pod for AffinityKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Affinity {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Member {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_kept_up_to_the_time_out_whoever_told_when_it_was_seen() {
        const SECOND: u64 = 1_000_000_000;
        let kept = |seen: u64, now: u64| {
            let affinity = Affinity {
                seen,
                backend: 1,
                reserved: 0,
            };
            affinity.holds(3_000, now)
        };
        assert!(kept(7 * SECOND, 7 * SECOND));
        assert!(kept(7 * SECOND, 10 * SECOND - 1));
        assert!(!kept(7 * SECOND, 10 * SECOND));
        assert!(kept(8, 7), "by the clock of another CPU");
        let before_boot = 0u64.wrapping_sub(2 * SECOND);
        assert!(kept(before_boot, SECOND - 1));
        assert!(!kept(before_boot, SECOND));
    }
}
