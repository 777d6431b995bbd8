//! Does the steps of a plan, and keeps the last known state in line with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vipd_datapath_common::{Address, flags};

use super::Kernel;
use crate::{
    DatapathError,
    announce::Target,
    netlink::Added,
    plan::{Presence, Step},
};

impl Kernel {
    /// Does the steps of several addresses; a failure ends those of its address only.
    pub(super) async fn run(&mut self, groups: Vec<(IpAddr, Vec<Step>)>) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        for (address, steps) in groups {
            for step in steps {
                if let Err(error) = self.step(address, step).await {
                    errors.push(error.of(address));
                    break;
                }
            }
        }
        errors
    }

    async fn step(&mut self, address: IpAddr, step: Step) -> Result<(), DatapathError> {
        tracing::trace!(%address, ?step);
        match step {
            Step::Silence => self.announcer.stop(address),
            Step::Write(entry) => self.write(address, entry)?,
            Step::Forget => {
                self.announcer.stop(address);
                self.maps.forget(address)?;
                self.actual.entries.remove(&address);
            }
            Step::Add { ifindex } => self.add(address, ifindex).await?,
            Step::Delete { ifindex } => {
                self.netlink.delete(address, ifindex).await?;
                if let Some(present) = self.actual.present.get_mut(&address) {
                    present.retain(|at| at.ifindex != ifindex);
                }
            }
            Step::Announce {
                ifindex,
                mac,
                router,
            } => {
                let target = Target {
                    ifindex,
                    mac,
                    router,
                };
                self.announcer.start(address, target);
            }
        }
        Ok(())
    }

    fn write(&mut self, address: IpAddr, entry: Address) -> Result<(), DatapathError> {
        // A gate opens only where the programs are: without them the kernel itself would answer,
        // and would not stop at the deadline.
        if entry.has(flags::OPEN) && !self.links.attached().contains_key(&entry.ifindex) {
            return Err(DatapathError::Interface {
                interface: self.name_of(entry.ifindex),
                reason: "has no programs attached, so the address stays shut",
            });
        }
        let new = !self.actual.entries.contains_key(&address);
        self.maps.write(address, entry, new)?;
        self.actual.entries.insert(address, entry);
        Ok(())
    }

    async fn add(&mut self, address: IpAddr, ifindex: u32) -> Result<(), DatapathError> {
        if !self.links.attached().contains_key(&ifindex) {
            return Err(DatapathError::Interface {
                interface: self.name_of(ifindex),
                reason: "has no programs attached, so the address is not added",
            });
        }
        let added = self.netlink.add(address, ifindex).await?;
        if added == Added::Existed {
            tracing::warn!(%address, ifindex, "the address was on the interface already");
        }
        let presence = Presence {
            ifindex,
            ours: added == Added::New,
        };
        self.actual
            .present
            .entry(address)
            .or_default()
            .push(presence);
        Ok(())
    }

    /// Starts the announcements of all open addresses on some interfaces again.
    pub(super) fn announce_on(&self, interfaces: &BTreeSet<u32>) {
        for (address, entry) in &self.actual.entries {
            if entry.has(flags::OPEN) && interfaces.contains(&entry.ifindex) {
                let target = Target {
                    ifindex: entry.ifindex,
                    mac: entry.mac,
                    router: entry.has(flags::ROUTER),
                };
                self.announcer.start(*address, target);
            }
        }
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
