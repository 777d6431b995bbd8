//! Who would take over which address, as VIPs show it.
//!
//! Working that out means to place all that a holder has, which takes milliseconds when that is thousands of addresses. So
//! it is done once for each holder and revision, and on a copy of the state: an entry waits for the copying at most.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vipd_core::id::NodeId;
use vipd_core::state::State;

use crate::erased::Daemon;

type Losses = BTreeMap<NodeId, Arc<BTreeMap<IpAddr, Option<NodeId>>>>;

/// What was worked out at the newest revision for which somebody asked.
#[derive(Default)]
pub(crate) struct Outlook(Mutex<Known>);

#[derive(Default)]
struct Known {
    revision: u64,
    losses: Losses,
}

/// The runners-up of all that some nodes hold.
#[derive(Default)]
pub(crate) struct RunnersUp(Losses);

impl RunnersUp {
    /// Works them out for what these nodes hold in `state`.
    pub(crate) fn new(state: &State, holders: BTreeSet<NodeId>) -> Self {
        Self(Losses::new()).with(state, holders)
    }

    fn with(mut self, state: &State, holders: BTreeSet<NodeId>) -> Self {
        for holder in holders {
            let loss = || Arc::new(state.loss(holder));
            self.0.entry(holder).or_insert_with(loss);
        }
        self
    }

    /// The node that takes `address` if its holder is lost, which is one of those that were asked for.
    pub(crate) fn of(&self, state: &State, address: IpAddr) -> Option<NodeId> {
        let holder = state.allocations().get(&address)?.holder?;
        *self.0.get(&holder)?.get(&address)?
    }
}

impl Outlook {
    /// Has `view` look at the state, and at the runners-up of what `holders` hold: the state itself if they are known, so
    /// `view` has to be quick, else a copy.
    pub(crate) fn look<R>(
        &self,
        daemon: &Daemon,
        holders: impl Fn(&State) -> BTreeSet<NodeId>,
        view: impl Fn(&State, &RunnersUp) -> R,
    ) -> R {
        let seen = daemon.read(|state| {
            let known = self.at(state.applied());
            if holders(state).iter().all(|node| known.contains_key(node)) {
                ControlFlow::Break(view(state, &RunnersUp(known)))
            } else {
                ControlFlow::Continue(state.clone())
            }
        });
        match seen {
            ControlFlow::Break(seen) => seen,
            ControlFlow::Continue(copy) => view(&copy, &self.runners_up(&copy, holders(&copy))),
        }
    }

    /// The runners-up of what these nodes hold in `copy`, which is the state as it was at some revision.
    pub(crate) fn runners_up(&self, copy: &State, holders: BTreeSet<NodeId>) -> RunnersUp {
        let revision = copy.applied();
        let found = RunnersUp(self.at(revision)).with(copy, holders);
        let mut known = self.lock();
        if known.revision < revision {
            *known = Known {
                revision,
                losses: found.0.clone(),
            };
        } else if known.revision == revision {
            known.losses.extend(found.0.clone());
        }
        found
    }

    /// What is known at `revision`.
    fn at(&self, revision: u64) -> Losses {
        let known = self.lock();
        let losses = (known.revision == revision).then(|| known.losses.clone());
        losses.unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use vipd_core::command::{Command, Proposal};
    use vipd_core::time::Millis;

    use super::*;
    use crate::Control;
    use crate::memory::Memory;

    #[test]
    fn a_loss_is_worked_out_once_for_each_holder_until_an_entry_is_applied() {
        let outlook = Outlook::default();
        let mut state = Memory::three_nodes().read(State::clone);
        let one = NodeId(1);
        let all: BTreeSet<NodeId> = state.nodes().keys().copied().collect();
        let first = outlook.runners_up(&state, BTreeSet::from([one]));
        let second = outlook.runners_up(&state, all.clone());
        assert_eq!(second.0.len(), all.len());
        assert!(Arc::ptr_eq(&first.0[&one], &second.0[&one]));
        assert!(Arc::ptr_eq(
            &second.0[&one],
            &outlook.at(state.applied())[&one]
        ));

        let old = state.clone();
        let (at, command) = (Millis(1), Command::Rebalance);
        state
            .apply(
                old.applied() + 1,
                &Proposal {
                    at,
                    command,
                    by: None,
                },
            )
            .unwrap();
        let third = outlook.runners_up(&state, BTreeSet::from([one]));
        assert!(!Arc::ptr_eq(&second.0[&one], &third.0[&one]));
        // Whoever still looks at an older copy does not take what is newer, nor replace it.
        outlook.runners_up(&old, all);
        assert!(Arc::ptr_eq(
            &third.0[&one],
            &outlook.at(state.applied())[&one]
        ));
    }
}
