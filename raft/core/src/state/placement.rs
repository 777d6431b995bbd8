//! Placement: which node holds an address, and who would next.
//!
//! A holder is replaced only after it released the address or its lease was withdrawn; until then the address
//! is *vacating*. So nothing here can make two holders, whatever the order of commands.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Entry, State};
use crate::event::{Cause, What};
use crate::id::{Epoch, NodeId};
use crate::node::{Lease, Node};
use crate::vip::Allocation;

impl State {
    /// The node that would take `address` if its holder were lost: computed, so never out of date.
    #[must_use]
    pub fn runner_up(&self, address: IpAddr) -> Option<NodeId> {
        let allocation = self.allocations.get(&address)?;
        self.candidate(address, allocation, allocation.holder)
    }

    /// Why `node` cannot hold `address`, if it cannot.
    pub(super) fn can_hold(
        &self,
        node: &Node,
        address: IpAddr,
        allocation: &Allocation,
    ) -> Result<(), String> {
        if !node.role.holds() {
            Err("it is a witness".into())
        } else if node.lease != Lease::Up {
            Err("it is down".into())
        } else if node.drained {
            Err("it is drained".into())
        } else if node.retiring {
            Err("it is shutting down".into())
        } else if node
            .interface_for(address, allocation.interface.as_deref())
            .is_none()
        {
            Err(match &allocation.interface {
                Some(interface) => format!("it has no interface {interface} that is up"),
                None => format!("it has no interface up in a subnet that contains {address}"),
            })
        } else {
            Ok(())
        }
    }

    /// The best node for `address` other than `not`: one that holds another address of the same VIP, then the
    /// least loaded, then the lowest number.
    fn candidate(
        &self,
        address: IpAddr,
        allocation: &Allocation,
        not: Option<NodeId>,
    ) -> Option<NodeId> {
        let siblings: Vec<NodeId> = self.vips.get(&allocation.vip).map_or_else(Vec::new, |vip| {
            let others = vip.addresses.iter().filter(|other| **other != address);
            others
                .filter_map(|other| self.allocations.get(other)?.holder)
                .collect()
        });
        self.nodes
            .values()
            .filter(|node| Some(node.id) != not && node.accepts())
            .filter(|node| {
                node.interface_for(address, allocation.interface.as_deref())
                    .is_some()
            })
            .min_by_key(|node| {
                (
                    !siblings.contains(&node.id),
                    self.index.load(node.id),
                    node.id,
                )
            })
            .map(|node| node.id)
    }

    /// Makes `to` the holder of an address that nobody can be announcing any more.
    pub(super) fn set_holder(
        &mut self,
        entry: Entry,
        address: IpAddr,
        to: Option<NodeId>,
        cause: Cause,
    ) {
        let Some(allocation) = self.allocations.get_mut(&address) else {
            return;
        };
        let from = allocation.holder;
        allocation.holder = to;
        allocation.epoch = Epoch(entry.revision.0);
        allocation.held_since = entry.at;
        allocation.vacating = None;
        allocation.next = None;
        let (vip, epoch) = (allocation.vip.clone(), allocation.epoch);
        self.index.moved(address, from, to);
        if from != to {
            self.note(
                entry,
                What::HolderChanged {
                    address,
                    vip,
                    from,
                    to,
                    epoch,
                    cause,
                },
            );
        }
    }

    /// Passes on an address whose holder has let go or is lost.
    pub(super) fn pass_on(&mut self, entry: Entry, address: IpAddr, cause: Cause) {
        let Some(allocation) = self.allocations.get(&address) else {
            return;
        };
        if allocation.freeing {
            self.drop_allocation(entry, address);
            return;
        }
        let asked = allocation.next.filter(|next| {
            self.nodes
                .get(next)
                .is_some_and(|node| self.can_hold(node, address, allocation).is_ok())
        });
        let to = asked.or_else(|| self.candidate(address, allocation, allocation.holder));
        self.set_holder(entry, address, to, cause);
    }

    /// Gives a homeless address a holder; asks a holder that should not keep its address to release it, if
    /// somebody else can take it.
    pub(super) fn settle_address(&mut self, entry: Entry, address: IpAddr) {
        let Some(allocation) = self.allocations.get(&address) else {
            return;
        };
        match allocation.holder {
            None => {
                if let Some(to) = self.candidate(address, allocation, None) {
                    self.set_holder(entry, address, Some(to), Cause::Placed);
                }
            }
            Some(_) if allocation.vacating.is_some() => {}
            Some(holder) => {
                let cause = match self.nodes.get(&holder) {
                    Some(node) if node.drained || node.retiring => Cause::Drained,
                    Some(node)
                        if node
                            .interface_for(address, allocation.interface.as_deref())
                            .is_none() =>
                    {
                        Cause::Ineligible
                    }
                    Some(_) | None => return,
                };
                if self.candidate(address, allocation, Some(holder)).is_some()
                    && let Some(allocation) = self.allocations.get_mut(&address)
                {
                    allocation.vacating = Some(cause);
                }
            }
        }
    }

    /// Settles whatever a change of nodes may have unsettled.
    pub(super) fn settle(&mut self, entry: Entry) {
        let mut unsettled: Vec<IpAddr> = self.index.homeless.iter().copied().collect();
        for node in self.nodes.values() {
            unsettled.extend(self.index.held_by(node.id).filter(|address| {
                let allocation = self.allocations.get(address);
                node.drained
                    || node.retiring
                    || allocation.is_some_and(|a| {
                        node.interface_for(*address, a.interface.as_deref())
                            .is_none()
                    })
            }));
        }
        for address in unsettled {
            self.settle_address(entry, address);
        }
    }
}
