//! What the loop knows and the API shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vipd_api::LocalBackend;
use vipd_core::name::Name;
use vipd_core::service::Endpoint;
use vipd_core::time::Millis;
use vipd_datapath::Observed;

use super::notices::Notices;

/// Written by the loop, read by the API; held for a copy's time only.
#[derive(Debug, Default)]
pub(super) struct Shared {
    observed: Mutex<Observed>,
    fault: Mutex<Option<String>>,
    unasked: Mutex<Option<String>>,
    frozen: AtomicBool,
    late: Mutex<Option<String>>,
    notices: Mutex<Notices>,
    backends: Mutex<Backends>,
    slowed: Mutex<BTreeMap<Name, Millis>>,
}

/// How backends are, by VIP.
pub(super) type Backends = BTreeMap<Name, BTreeMap<Endpoint, LocalBackend>>;

/// A poisoned lock holds whole values all the same: every write replaces one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn observed(&self) -> Observed {
        lock(&self.observed).clone()
    }

    pub(super) fn set_observed(&self, observed: Observed) {
        *lock(&self.observed) = observed;
    }

    /// What is wrong with the datapath, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let fault = lock(&self.fault).clone();
        fault.or_else(|| lock(&self.unasked).clone())
    }

    pub(super) fn set_fault(&self, fault: Option<String>) {
        *lock(&self.fault) = fault;
    }

    /// Why the link can't be asked who has an address, if it can't.
    pub(super) fn set_unasked(&self, why: Option<String>) {
        *lock(&self.unasked) = why;
    }

    /// What this node noticed of its own host.
    pub(super) fn notices(&self) -> MutexGuard<'_, Notices> {
        lock(&self.notices)
    }

    /// How the backends are that this node looks after.
    pub(super) fn backends(&self) -> MutexGuard<'_, Backends> {
        lock(&self.backends)
    }

    /// How often backends are asked of those VIPs that want to be asked about more often than this node asks at all.
    pub(super) fn slowed(&self) -> BTreeMap<Name, Millis> {
        lock(&self.slowed).clone()
    }

    pub(super) fn set_slowed(&self, slowed: BTreeMap<Name, Millis>) {
        *lock(&self.slowed) = slowed;
    }

    /// Whether this node announces without a majority, as its configuration asks.
    pub(super) fn frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    pub(super) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Why the beats are too late for the lease, if they are.
    pub(super) fn late(&self) -> Option<String> {
        lock(&self.late).clone()
    }

    /// The same, from now on; whether that is news.
    pub(super) fn set_late(&self, late: Option<String>) -> bool {
        let mut known = lock(&self.late);
        let news = known.is_some() != late.is_some();
        *known = late;
        news
    }
}
