//! One copy of the replicated state, on a voter or an agent.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use openraft::EntryPayload;
use tokio::sync::watch;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::Outcome;
use vipd_core::state::State;

use super::recent::Recent;
use crate::types::{Entry, LogId, SnapshotMeta, StoredMembership, voter_sets};

const VERSION: u8 = 2;

/// The state as of one log entry, with what has to travel beside it.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// The state.
    pub state: State,
    /// The last entry in it.
    pub applied: Option<LogId>,
    /// The last membership entry in it.
    pub membership: StoredMembership,
    recent: Recent,
}

impl Replica {
    /// Applies the next entry. A request that was applied before is answered again and changes nothing.
    pub fn apply(&mut self, entry: &Entry) -> Option<Outcome> {
        let index = entry.log_id.index;
        self.applied = Some(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => {
                self.state.apply_blank(index);
                None
            }
            EntryPayload::Normal(request) => Some(match self.recent.get(request.id) {
                Some(outcome) => {
                    self.state.apply_blank(index);
                    outcome.clone()
                }
                None => {
                    let outcome = self.state.apply(index, &request.proposal);
                    self.recent
                        .insert(request.id, request.proposal.at, outcome.clone());
                    outcome
                }
            }),
            EntryPayload::Membership(membership) => {
                self.state.apply_membership(index, &voter_sets(membership));
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                None
            }
        }
    }

    /// What a snapshot says of itself.
    #[must_use]
    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        }
    }

    /// What a snapshot holds.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut out = Writer::new();
        VERSION.encode(&mut out);
        self.state.encode(&mut out);
        self.recent.encode(&mut out);
        out.finish().into()
    }

    /// The replica that a snapshot was made of.
    ///
    /// # Errors
    /// If these bytes are no snapshot of this version.
    pub fn restore(meta: &SnapshotMeta, body: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(body);
        match u8::decode(&mut input)? {
            VERSION => {}
            tag => {
                return Err(DecodeError::Tag {
                    of: "snapshot",
                    tag,
                });
            }
        }
        let (state, recent) = (State::decode(&mut input)?, Recent::decode(&mut input)?);
        match input.left() {
            0 => Ok(Self {
                state,
                applied: meta.last_log_id,
                membership: meta.last_membership.clone(),
                recent,
            }),
            n => Err(DecodeError::Trailing(n)),
        }
    }
}

/// The replica that one writer changes and everybody reads, and the news of it.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    replica: Arc<RwLock<Replica>>,
    applied: Arc<watch::Sender<u64>>,
    /// Somebody asks for a snapshot, whether or not one is due.
    snapshot_asked: Arc<AtomicBool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            replica: Arc::default(),
            applied: Arc::new(watch::Sender::new(0)),
            snapshot_asked: Arc::default(),
        }
    }
}

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Replica> {
        // Only a panic inside `apply` can poison it; openraft then stops this node, and what is left is still
        // the best answer to a local read.
        self.replica.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the replica; readers wait. [`Shared::announce`] afterwards.
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut Replica) -> R) -> R {
        change(&mut self.replica.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the watchers how far the replica has come.
    pub(crate) fn announce(&self) {
        let index = self.read().applied.map_or(0, |id| id.index);
        self.applied
            .send_if_modified(|seen| std::mem::replace(seen, index) != index);
    }

    /// The next snapshot that openraft asks for is written, due or not.
    pub(crate) fn request_snapshot(&self) {
        self.snapshot_asked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_snapshot_request(&self) -> bool {
        self.snapshot_asked.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn state(&self) -> SharedState {
        SharedState(self.clone())
    }
}

/// The replicated state of this node, for reading. Cheap to clone; always whole, never half an entry.
#[derive(Clone, Debug)]
pub struct SharedState(Shared);

/// The state, held still while this exists. Keep it short, and never across an `await`: applying waits.
#[derive(Debug)]
pub struct StateGuard<'a>(RwLockReadGuard<'a, Replica>);

impl Deref for StateGuard<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.0.state
    }
}

impl SharedState {
    /// The state, held still.
    #[must_use]
    pub fn read(&self) -> StateGuard<'_> {
        StateGuard(self.0.read())
    }

    /// What `view` makes of the state, and the index of the last entry in it.
    pub fn view<R>(&self, view: impl FnOnce(&State) -> R) -> (u64, R) {
        let replica = self.0.read();
        (
            replica.applied.map_or(0, |id| id.index),
            view(&replica.state),
        )
    }
}
