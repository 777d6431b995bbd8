//! Moves that are under way end where they were to go.
//!
//! The holder of an address that is on its way may be handing packets to the next one, which speaks for the address by
//! that, before it is the holder (`crate::steward`). Its log may lag, and packets may wait on their way to it: nobody
//! knows when it last spoke. So while its lease is running nobody but it may come next. Whoever changes his mind waits
//! until it has arrived, and has it moved on. Only when its lease was withdrawn, and its own kernel has silenced it, is
//! the address given to another, or left where it is.

use core::net::IpAddr;

use super::State;
use super::unit::Given;
use crate::id::NodeId;
use crate::node::Lease;
use crate::rejection::Rejection;
use crate::vip::Allocation;

impl State {
    /// The node that an address is on its way to, which may be speaking for it already.
    pub(super) fn bound_for(&self, of: &Allocation) -> Option<NodeId> {
        let next = of.next.filter(|_| of.vacating.is_some())?;
        let node = self.nodes.get(&next)?;
        (node.lease == Lease::Up && of.holder != Some(next)).then_some(next)
    }

    /// Whether addresses are on their way to `node`.
    #[must_use]
    pub fn expects(&self, node: NodeId) -> bool {
        let stay = self.held_by(node).filter(|(_, of)| of.vacating.is_none());
        self.index.load(node) > stay.count() as u64
    }

    /// Nobody may send an address to `to` while it is on its way to another node.
    pub(super) fn nothing_goes_elsewhere(
        &self,
        addresses: &[IpAddr],
        to: NodeId,
    ) -> Result<(), Rejection> {
        let elsewhere = addresses.iter().find_map(|address| {
            let of = self.allocations.get(address)?;
            let next = self.bound_for(of).filter(|next| *next != to)?;
            Some((*address, self.nodes.get(&next)?.name.clone()))
        });
        match elsewhere {
            None => Ok(()),
            Some((address, to)) => Err(Rejection::OnItsWay { address, to }),
        }
    }

    /// Whether its holder, though asked to let it go, could go on answering for an address.
    pub(super) fn could_stay(&self, given: Given<'_>) -> bool {
        let of = given.of;
        let holder = of.holder.and_then(|holder| self.nodes.get(&holder));
        !of.freeing
            && of.vacating.is_some()
            && self.bound_for(of).is_none()
            && holder.is_some_and(|node| {
                node.lease == Lease::Up && self.interface_of(node, given).is_some()
            })
    }
}
