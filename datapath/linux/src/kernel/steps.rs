//! Does the steps of a plan, and keeps the last known state in line with them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::IpAddr,
};

use vipd_datapath_common::{Address, flags};

use super::{Kernel, settle::Job};
use crate::{
    DatapathError,
    announce::Target,
    netlink::Change,
    plan::{Presence, Step},
};

/// Plans that put or take more addresses than this leave it to the settling thread.
const MANY: usize = 128;
/// Addresses carried on together from step to step: the first of many are answered for after so many.
const TOGETHER: usize = 128;

/// What of a long list is left to the settling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// Nothing: each step is done.
    Nothing,
    /// Addresses are put on their interface later; until then they are routed.
    Puts,
    /// Addresses are taken off later; until then they stay as they are, fenced.
    Takes,
}

/// An address and what is left to do for it.
type Rest = (IpAddr, VecDeque<Step>);

impl Kernel {
    /// Does the steps of several addresses; a failure ends those of its address only.
    pub(super) async fn run(
        &mut self,
        groups: Vec<(IpAddr, Vec<Step>)>,
        later: Later,
    ) -> Vec<DatapathError> {
        let many = groups.iter().filter(|(_, steps)| moves(steps)).count() > MANY;
        let later = if many { later } else { Later::Nothing };
        let mut errors = Vec::new();
        let mut groups = groups.into_iter().map(|(at, steps)| (at, steps.into()));
        loop {
            let mut chunk: Vec<Rest> = groups.by_ref().take(TOGETHER).collect();
            if chunk.is_empty() {
                return errors;
            }
            while !chunk.is_empty() {
                errors.extend(self.until_a_move(&mut chunk));
                errors.extend(self.moves(&mut chunk, later));
            }
            // Others of this thread may have something more urgent.
            tokio::task::yield_now().await;
        }
    }

    /// Does the steps of each address up to one that moves it; drops those that are done or have failed.
    fn until_a_move(&mut self, chunk: &mut Vec<Rest>) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        let mut announced = Vec::new();
        chunk.retain_mut(|(address, steps)| {
            while let Some(step) = steps.pop_front_if(|step| !is_move(step)) {
                tracing::trace!(%address, ?step);
                let done = match step {
                    Step::Write(entry) => self.write(*address, entry),
                    Step::Forget => self.forget(*address),
                    Step::Silence => {
                        self.announcer.stop(*address);
                        Ok(())
                    }
                    Step::Announce(target) => {
                        announced.push((*address, target));
                        Ok(())
                    }
                    Step::Add { .. } | Step::Delete { .. } => Ok(()), // not popped here
                };
                if let Err(error) = done {
                    errors.push(error.of(*address));
                    return false;
                }
            }
            !steps.is_empty()
        });
        self.announcer.start(&announced);
        errors
    }

    /// Does the step of each address that is next, all of them together; drops those that have failed or are left to
    /// the settling thread.
    fn moves(&mut self, chunk: &mut Vec<Rest>, later: Later) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        let mut changes = Vec::new();
        let mut jobs = Vec::new();
        chunk.retain_mut(|(address, steps)| {
            let address = *address;
            match steps.pop_front() {
                Some(Step::Add { ifindex }) if !self.links.has(ifindex) => {
                    let error = DatapathError::Interface {
                        interface: self.name_of(ifindex),
                        reason: "has no programs attached, so the address is not added",
                    };
                    errors.push(error.of(address));
                    return false;
                }
                Some(Step::Add { ifindex }) if later == Later::Puts => {
                    changes.push(Change::Route(address, ifindex));
                    jobs.push((address, Job::Put(ifindex)));
                }
                Some(Step::Add { ifindex }) => changes.push(Change::Put(address, ifindex)),
                // The entry stays as it is, and fences, until the address is gone: the next audit goes on.
                Some(Step::Delete { ifindex }) if later == Later::Takes => {
                    jobs.push((address, Job::Take(ifindex)));
                    return false;
                }
                Some(Step::Delete { ifindex }) => {
                    if let Some(ifindex) = self.settler.forget(address) {
                        changes.push(Change::Unroute(address, ifindex));
                    }
                    changes.push(Change::Take(address, ifindex));
                }
                Some(Step::Silence | Step::Write(_) | Step::Forget | Step::Announce(_)) | None => {}
            }
            true
        });
        let mut failed = BTreeMap::new();
        for (place, error) in self.batch.run(&changes) {
            failed.insert(place, error);
        }
        let mut stopped = BTreeSet::new();
        for (place, change) in changes.into_iter().enumerate() {
            let error = failed.remove(&place);
            if let Err(error) = self.note(change, error) {
                let address = change.address();
                errors.push(error.of(address));
                stopped.insert(address);
            }
        }
        chunk.retain(|(address, _)| !stopped.contains(address));
        jobs.retain(|(address, _)| !stopped.contains(address));
        self.settler.add(jobs);
        errors
    }

    /// Keeps the last known state in line with what a change did.
    fn note(&mut self, change: Change, error: Option<io::Error>) -> Result<(), DatapathError> {
        let existed = |error: &io::Error| error.raw_os_error() == Some(nix::libc::EEXIST);
        let (address, at) = match (change, error) {
            (Change::Put(address, ifindex) | Change::Route(address, ifindex), None) => {
                let ours = true;
                (address, Presence { ifindex, ours })
            }
            (Change::Put(address, ifindex), Some(error)) if existed(&error) => {
                tracing::warn!(%address, ifindex, "the address was on the interface already");
                let ours = false;
                (address, Presence { ifindex, ours })
            }
            (Change::Take(address, ifindex) | Change::Unroute(address, ifindex), None) => {
                if let Some(present) = self.actual.present.get_mut(&address) {
                    present.retain(|at| at.ifindex != ifindex);
                }
                return Ok(());
            }
            (change, Some(error)) => return Err(change.failed(error)),
        };
        self.actual.present.entry(address).or_default().push(at);
        Ok(())
    }

    fn forget(&mut self, address: IpAddr) -> Result<(), DatapathError> {
        self.announcer.stop(address);
        self.maps.forget(address)?;
        self.actual.entries.remove(&address);
        Ok(())
    }

    fn write(&mut self, address: IpAddr, entry: Address) -> Result<(), DatapathError> {
        // A gate opens only where the programs are: without them the kernel itself would answer,
        // and would not stop at the deadline.
        let speaks = entry.has(flags::OPEN) || entry.has(flags::TAKE);
        if speaks && !self.links.has(entry.ifindex) {
            return Err(DatapathError::Interface {
                interface: self.name_of(entry.ifindex),
                reason: "has no programs attached, so the address stays shut",
            });
        }
        let before = self.actual.entries.get(&address);
        let takes = |it: &Address| it.has(flags::TAKE) && it.peer == entry.peer;
        // What was handed to it in an earlier move gives no right in this one.
        if entry.has(flags::TAKE) && !before.is_some_and(takes) {
            self.maps.forget_handed(address)?;
        }
        let new = before.is_none();
        self.maps.write(address, entry, new)?;
        self.actual.entries.insert(address, entry);
        Ok(())
    }

    /// Starts the announcements of all open addresses on some interfaces again.
    pub(super) fn announce_on(&self, interfaces: &BTreeSet<u32>) {
        let there = |entry: &Address| entry.has(flags::OPEN) && interfaces.contains(&entry.ifindex);
        let entries = self.actual.entries.iter();
        let targets: Vec<_> = entries
            .filter(|(_, entry)| there(entry))
            .map(|(address, entry)| (*address, Target::of(entry)))
            .collect();
        self.announcer.start(&targets);
    }

    /// Whether the pinned entry records that vipd added the address there.
    pub(super) fn is_added(
        &self,
        entries: &BTreeMap<IpAddr, Address>,
        address: IpAddr,
        ifindex: u32,
    ) -> bool {
        entries
            .get(&address)
            .is_some_and(|entry| entry.has(flags::ADDED) && entry.ifindex == ifindex)
    }

    pub(super) fn name_of(&self, ifindex: u32) -> String {
        self.interfaces
            .iter()
            .find(|interface| interface.index == ifindex)
            .map_or_else(|| format!("#{ifindex}"), |interface| interface.name.clone())
    }
}

fn is_move(step: &Step) -> bool {
    match step {
        Step::Add { .. } | Step::Delete { .. } => true,
        Step::Silence | Step::Write(_) | Step::Forget | Step::Announce(_) => false,
    }
}

fn moves(steps: &[Step]) -> bool {
    steps.iter().any(is_move)
}
