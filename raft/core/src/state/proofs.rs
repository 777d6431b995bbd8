//! Addresses that somebody outside may have: what holders found when they asked.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Entry, State, done};
use crate::command::Outcome;
use crate::event::What;
use crate::id::NodeId;
use crate::proof::{Found, Proof};
use crate::vip::Allocation;

impl State {
    /// The addresses of which it is not known that nobody outside has them.
    pub fn unproven(&self) -> impl Iterator<Item = (IpAddr, &Allocation)> {
        let all = self.allocations.iter().map(|(at, of)| (at, &**of));
        all.filter(|(_, of)| of.proof != Proof::Clear)
    }

    /// The same of those that `node` holds, in time proportional to the fewer of what it holds and what is not known.
    pub fn unproven_of(&self, node: NodeId) -> impl Iterator<Item = (IpAddr, &Allocation)> {
        let addresses = self.index.unproven_of(node);
        addresses.filter_map(|address| Some((address, &**self.allocations.get(&address)?)))
    }

    /// Takes what a holder found. What was held under another token is the question of whoever holds it now.
    pub(super) fn probed(&mut self, entry: Entry, id: NodeId, found: &[Found]) -> Outcome {
        self.member_mut(id)?;
        let mut refused = Vec::new();
        for found in found {
            let address = found.address;
            let Some(of) = self.allocations.get(&address) else {
                continue;
            };
            let asked = of.holder == Some(id) && of.epoch == found.epoch && !of.freeing;
            let Some(proof) = of.proof.after(id, found).filter(|_| asked) else {
                // Nothing new, but there may be another address by now.
                let still = found.claim.is_some() && of.proof.refused_for().is_some();
                refused.extend((asked && still).then_some(address));
                continue;
            };
            let (vip, was) = (of.vip.clone(), of.proof.clone());
            refused.extend(proof.refused_for().map(|_| address));
            self.change(address, |of| of.proof = proof.clone());
            match (proof, was) {
                (
                    Proof::InUse {
                        node,
                        claim,
                        announced,
                    },
                    Proof::Clear | Proof::Unproven | Proof::InUse { .. },
                ) => self.note(
                    entry,
                    What::InUse {
                        address,
                        vip,
                        node,
                        claim,
                        announced,
                    },
                ),
                (Proof::Clear | Proof::Unproven, Proof::InUse { .. }) => {
                    self.note(entry, What::NotInUse { address, vip });
                }
                // What nobody had is what everybody expects.
                (Proof::Clear | Proof::Unproven, Proof::Clear | Proof::Unproven) => {}
            }
        }
        self.replace_in_use(entry, refused);
        done(entry)
    }
}
