//! A host that is no member, and may have addresses that VIPs are given.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use vipd_core::node::Mac;

/// What it is heard as.
pub(crate) const MAC: Mac = Mac([2, 99, 0, 0, 0, 99]);

/// Of so many addresses in a row it has one.
const EACH: u64 = 4;

/// Which addresses it has: those whose last byte leaves this rest; none with a rest that there is not.
pub(crate) struct Outsider(AtomicU64);

impl Default for Outsider {
    fn default() -> Self {
        Self(AtomicU64::new(EACH))
    }
}

impl Outsider {
    /// It has every fourth address from now on, beginning with that one.
    pub(crate) fn sits_on(&self, first: u64) {
        self.0.store(first % EACH, Ordering::Relaxed);
    }

    /// It has none any more.
    pub(crate) fn goes(&self) {
        self.0.store(EACH, Ordering::Relaxed);
    }

    /// Whether it has this one now.
    #[must_use]
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let last = match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        u64::from(last) % EACH == self.0.load(Ordering::Relaxed)
    }
}
