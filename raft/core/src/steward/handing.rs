//! Planned moves without a lost packet: the holder goes on serving until the next holder is ready to be handed packets,
//! hands them on until that one is the holder, and a while longer, for clients that have not heard it yet.
//!
//! ```text
//!   holder   Open ──asked, head start over──> Hand ──Released applied──> Hand, 2 s ──> Shut
//!   next     Shut ──asked──────────────────> Take ──Released applied──> Open, announces
//! ```
//! Why there is never a second speaker. The next one speaks only after the holder has handed it a packet, so after the
//! holder fell silent. From then on nobody else comes to speak, however late the packet or the next one's log is: the
//! address ends its way where it was to go (`State::bound_for`), or the next one's lease is withdrawn, so its own kernel
//! has silenced it. What is left is a packet of an *earlier* move of the same address to the same node, which has lost it
//! since: by handing it on, or with its lease. So it takes nothing for [`HAND_ON`] after either. That a frame is on its
//! way for less than that is all that is assumed of the network.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use super::gates::{self, Duty, Gates, carrier};
use crate::id::{Epoch, NodeId};
use crate::node::{Lease, Mac};
use crate::state::State;
use crate::time::{Instant, Span};

/// How long the holder goes on serving, so that the next one may get ready: it applies the same entry a moment later, and
/// has an address to put on an interface. The client loses nothing meanwhile, so it is long enough for a busy machine.
const HEAD_START: Span = Span::millis(25);
/// The same again for each address that moves: what it costs the next holder to get ready for one more.
const EACH: Span = Span(50_000);
/// How long a former holder hands on, and takes nothing back: neighbour caches follow an announcement within milliseconds
/// where it is heard.
const HAND_ON: Span = Span::millis(2000);

/// What a node remembers of the planned moves away from it.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    /// Addresses that it is asked to give back, and when it stops serving them.
    asked: BTreeMap<IpAddr, Instant>,
    /// Addresses that it handed on and is rid of, and when that ends.
    gone: BTreeMap<IpAddr, Instant>,
    /// This node's lease, and from when on it takes what is handed to it.
    lease: Option<Epoch>,
    takes_from: Instant,
    looked: Instant,
}

impl Moves {
    /// Notes what has begun and what has ended, by what the datapath last was told.
    pub(super) fn look(&mut self, now: Instant, state: &State, me: NodeId, told: Option<&Gates>) {
        self.looked = now;
        let lease = state.node(me).map(|node| node.epoch);
        if self.lease != lease {
            (self.lease, self.takes_from) = (lease, now.after(HAND_ON));
        }
        let asked: BTreeMap<IpAddr, Epoch> = gates::vacating(state, me).collect();
        let n = asked.len() as u64;
        let stops = now.after(HEAD_START).after(Span(EACH.0 * n));
        self.asked.retain(|address, _| asked.contains_key(address));
        for (address, epoch) in asked {
            // Only what this life of the node serves goes on being served: an earlier life may have let go already.
            let told = told.and_then(|told| told.get(&address));
            let serves = told.is_some_and(|told| told.is_open() && told.epoch == epoch);
            let stops = if serves { stops } else { now };
            self.asked.entry(address).or_insert(stops);
        }
        let of_another = |address: &IpAddr| {
            let holder = state.allocations().get(address).and_then(|of| of.holder);
            holder.is_some_and(|holder| holder != me)
        };
        for (address, stance) in told.into_iter().flatten() {
            if matches!(stance.duty, Duty::Hand { until: None, .. }) && of_another(address) {
                self.gone.insert(*address, now.after(HAND_ON));
            }
        }
        self.gone
            .retain(|address, until| *until > now && of_another(address));
    }

    /// Whether this node was asked to give the address back, as of the last look.
    pub(super) fn knows(&self, address: &IpAddr) -> bool {
        self.asked.contains_key(address)
    }

    /// When something ends next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let asked = self.asked.values().filter(|at| **at > self.looked);
        asked.chain(self.gone.values()).min().copied()
    }

    /// Whether time alone changes nothing of what the moves make.
    pub(super) fn still(&self) -> bool {
        self.next_look().is_none() && self.takes_from <= self.looked
    }

    /// What the holder `me` does about an address that it is asked to give back. `serves` if it may speak at all.
    pub(super) fn leaving(&self, state: &State, address: IpAddr, serves: bool) -> Duty {
        let next = state.allocations().get(&address).and_then(|of| of.next);
        let Some(to) = next.and_then(|next| mac(state, next, address)) else {
            return Duty::Shut;
        };
        match self.asked.get(&address) {
            _ if !serves => Duty::Shut,
            Some(stops) if *stops > self.looked => Duty::Open,
            Some(_) | None => Duty::Hand { to, until: None },
        }
    }

    /// What a node does about an address that another one holds.
    pub(super) fn elsewhere(&self, state: &State, me: NodeId, address: IpAddr, may: bool) -> Duty {
        let Some(of) = state.allocations().get(&address) else {
            return Duty::Shut;
        };
        let holder = of.holder.and_then(|holder| mac(state, holder, address));
        let next = of.vacating.is_some() && of.next == Some(me);
        let takes = next && may && self.takes_from <= self.looked;
        match (holder, self.gone.get(&address)) {
            (Some(from), None) if takes => Duty::Take { from },
            (Some(to), Some(until)) => Duty::Hand {
                to,
                until: Some(*until),
            },
            (Some(_) | None, _) => Duty::Shut,
        }
    }
}

/// The MAC of the interface on which `node` would carry the address, while its lease can be running.
fn mac(state: &State, node: NodeId, address: IpAddr) -> Option<Mac> {
    let node = state.node(node).filter(|node| node.lease == Lease::Up)?;
    node.mac_of(carrier(state, node, address)?)
}
