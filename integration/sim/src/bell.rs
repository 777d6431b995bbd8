//! Waking those who wait for news. tokio's `watch` wakes in an order of chance, and chance here comes from the seed.

use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use crate::lock;

/// Wakes everybody who listens, in the order in which they began to.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<Mutex<Vec<Weak<Notify>>>>);

impl Bell {
    /// Also wakes `listener`, for as long as it exists.
    pub(crate) fn wakes(&self, listener: &Arc<Notify>) {
        lock(&self.0).push(Arc::downgrade(listener));
    }

    /// A listener of its own.
    #[must_use]
    pub(crate) fn listen(&self) -> Arc<Notify> {
        let listener = Arc::default();
        self.wakes(&listener);
        listener
    }

    /// There is news.
    pub(crate) fn ring(&self) {
        lock(&self.0).retain(|listener| match listener.upgrade() {
            Some(listener) => {
                listener.notify_one();
                true
            }
            None => false,
        });
    }
}
