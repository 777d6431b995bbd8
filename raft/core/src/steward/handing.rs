//! Planned moves without a lost packet: the holder goes on serving until the next holder is ready to be handed packets,
//! hands them on until that one is the holder, and a while longer, for clients that have not heard it yet.
//!
//! ```text
//!   holder   Open ──asked, head start over──> Hand ─────────── 3 s ──────────> Shut
//!   next     Shut ──asked──────────────────> Take ──Released applied──> Open, announces
//! ```
//! Why there is never a second speaker. The next one speaks only after the holder has handed it a packet, so after the
//! holder fell silent. From then on nobody else comes to speak, however late the packet or the next one's log is: the
//! address ends its way where it was to go (`State::bound_for`), or the next one's lease is withdrawn, so its own kernel
//! has silenced it. What is left is a packet of an *earlier* move:
//!
//! - To a node that has lost the address since, by giving it back, whether it handed it on or was silent already, or with its
//!   lease. The holder of then had fallen silent before, and its kernel hands on for [`HANDS`] from then, however late its
//!   daemon is. So the node does not take the address for [`REST`] after the one, and nothing after the other.
//! - To a node whose lease was withdrawn, so that the holder has the address back; the log may have gone on since, to a new
//!   lease of that node and another move to it. So the holder stays silent for [`QUIET`]: the price where a node is lost in
//!   the very moment of a move to it.
//!
//! That a frame is on its way for less than [`FLIGHT`] is all that is assumed of the network.
//!
//! Many addresses go in turns ([`AT_A_TIME`]): whoever waits for its turn is served as before, so that what a move of
//! thousands costs on a slow machine is time, not silence.
//!
//! Nothing is handed on where backends get packets by their MAC (`dsr`, `l2`): one that is the next holder could not tell what is
//! handed to it from what the holder, which speaks, sends to its backend. Nor could one that is a backend no more, to which
//! connections still go.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use super::RELEASED_AT_ONCE;
use super::gates::{self, Duty, Gates, carrier};
use crate::id::{Epoch, NodeId};
use crate::node::{Lease, Mac};
use crate::service::{Dispatch, Mode};
use crate::state::State;
use crate::time::{Instant, Span};

/// How long the holder goes on serving, so that the next one may get ready: it applies the same entry a moment later, and
/// has an address to put on an interface. The client loses nothing meanwhile, so it is long enough for a busy machine.
const HEAD_START: Span = Span::millis(25);
/// The same again for each address that moves: what it costs the next holder to get ready for one more.
const EACH: Span = Span(50_000);
/// Addresses that are silent here and not yet given back, or about to be. Two entries of the log give as many back; so while
/// one is being committed the next can be made.
pub(super) const AT_A_TIME: usize = 2 * RELEASED_AT_ONCE;
/// How long a holder that has fallen silent hands on: neighbour caches follow an announcement within milliseconds where it
/// is heard, and thousands of addresses arrive within that time.
const HANDS: Span = Span::millis(3000);
/// The longest that a frame may be on its way.
const FLIGHT: Span = Span::millis(2000);
/// After so long nothing arrives any more of what was handed to this node.
const REST: Span = Span(HANDS.0 + FLIGHT.0);
/// The last packet that was handed on has arrived by then, and the right to speak that it gave is over (a second,
/// `vipd_datapath_common::handing`).
const QUIET: Span = Span(FLIGHT.0 + Span::millis(1000).0);

/// What a node remembers of the planned moves away from it.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    /// Addresses that it is asked to give back.
    asked: BTreeMap<IpAddr, Asked>,
    /// Addresses that it handed on and is rid of, and when that ends.
    gone: BTreeMap<IpAddr, Instant>,
    /// Addresses that it was asked to give back and is rid of, and when it may take them again.
    lost: BTreeMap<IpAddr, Instant>,
    /// Addresses that it was handing on and has back, and until when it is silent.
    back: BTreeMap<IpAddr, Instant>,
    /// This node's lease, and from when on it takes what is handed to it.
    lease: Option<Epoch>,
    takes_from: Instant,
    looked: Instant,
}

/// What it is asked about one address.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// When the next holder is ready for it.
    ready: Instant,
    /// When it stops serving it; `None` before its turn.
    stops: Option<Instant>,
    /// The next holder, and its lease.
    next: Option<(NodeId, Epoch)>,
    /// Until when its kernel was told to hand on, if it was.
    handed: Option<Instant>,
}

impl Moves {
    /// Notes what has begun and what has ended, by what the datapath last was told.
    pub(super) fn look(&mut self, now: Instant, state: &State, me: NodeId, told: Option<&Gates>) {
        self.looked = now;
        let lease = state.node(me).map(|node| node.epoch);
        if self.lease != lease {
            (self.lease, self.takes_from) = (lease, now.after(REST));
        }
        let asked: BTreeMap<IpAddr, Epoch> = gates::vacating(state, me).collect();
        let n = asked.len() as u64;
        let ready = now.after(HEAD_START).after(Span(EACH.0 * n));
        let holder = |address: &IpAddr| state.allocations().get(address)?.holder;
        let leases = |(id, epoch)| {
            let node = state.node(id);
            node.is_some_and(|node| node.lease == Lease::Up && node.epoch == epoch)
        };
        for (address, before) in &mut self.asked {
            let hands = told.and_then(|told| match told.get(address)?.duty {
                Duty::Hand { until, .. } => Some(until),
                Duty::Open | Duty::Shut | Duty::Take { .. } => None,
            });
            before.handed = hands.max(before.handed);
            if holder(address) != Some(me) {
                self.lost.insert(*address, now.after(REST));
            } else if let Some(until) = before.handed
                && !asked.contains_key(address)
                && !before.next.is_some_and(leases)
            {
                self.back.insert(*address, until.min(now).after(QUIET));
            }
        }
        self.lost.retain(|_, until| *until > now);
        self.back
            .retain(|address, until| *until > now && holder(address) == Some(me));
        self.asked.retain(|address, _| asked.contains_key(address));
        for (address, epoch) in asked {
            // Only what this life of the node serves goes on being served: an earlier life may have let go already.
            let told = told.and_then(|told| told.get(&address));
            let serves = told.is_some_and(|told| told.is_open() && told.epoch == epoch);
            let stops = (!serves).then_some(now);
            let of = state.allocations().get(&address);
            let next = of.and_then(|of| state.node(of.next?));
            let next = next.map(|next| (next.id, next.epoch));
            let handed = None;
            let known = self.asked.entry(address).or_insert(Asked {
                ready,
                stops,
                next,
                handed,
            });
            known.next = next;
        }
        self.take_turns(now);
        let of_another = |address: &IpAddr| holder(address).is_some_and(|holder| holder != me);
        for (address, stance) in told.into_iter().flatten() {
            match stance.duty {
                Duty::Hand {
                    until,
                    leased: true,
                    ..
                } if of_another(address) => {
                    self.gone.insert(*address, until);
                }
                Duty::Hand { .. } | Duty::Open | Duty::Shut | Duty::Take { .. } => {}
            }
        }
        self.gone
            .retain(|address, until| *until > now && of_another(address));
    }

    /// Has as many begin to leave as may be on their way.
    fn take_turns(&mut self, now: Instant) {
        let leave = self.asked.values().filter(|asked| asked.stops.is_some());
        let free = AT_A_TIME.saturating_sub(leave.count());
        let wait = self
            .asked
            .values_mut()
            .filter(|asked| asked.stops.is_none());
        for asked in wait.take(free) {
            asked.stops = Some(asked.ready.max(now));
        }
    }

    /// Whether this node was asked to give the address back, as of the last look.
    pub(super) fn knows(&self, address: &IpAddr) -> bool {
        self.asked.contains_key(address)
    }

    /// When something ends next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let asked = self.asked.values().filter_map(|asked| asked.stops.as_ref());
        let asked = asked.filter(|at| **at > self.looked);
        let over = self.gone.values().chain(self.lost.values());
        let rested = Some(&self.takes_from).filter(|at| **at > self.looked);
        let over = over.chain(self.back.values()).chain(rested);
        asked.chain(over).min().copied()
    }

    /// Whether time alone changes nothing of what the moves make.
    pub(super) fn still(&self) -> bool {
        self.next_look().is_none() && self.asked.values().all(|asked| asked.stops.is_some())
    }

    /// Whether this node, which holds the address, may speak: not while a packet that it handed on may give another one a
    /// right to.
    pub(super) fn lets_open(&self, address: &IpAddr) -> bool {
        !self.back.contains_key(address)
    }

    /// What the holder `me` does about an address that it is asked to give back. `serves` if it may speak at all.
    pub(super) fn leaving(&self, state: &State, address: IpAddr, serves: bool) -> Duty {
        let next = state.allocations().get(&address).and_then(|of| of.next);
        let next = next.filter(|_| !by_mac(state, address));
        let to = next.and_then(|next| mac(state, next, address));
        match (to, self.asked.get(&address)) {
            (Some(to), Some(asked)) if serves => {
                match asked.stops.filter(|at| *at <= self.looked) {
                    Some(stopped) => Duty::Hand {
                        to,
                        until: stopped.after(HANDS),
                        leased: true,
                    },
                    None => Duty::Open,
                }
            }
            (Some(_) | None, Some(_) | None) => Duty::Shut,
        }
    }

    /// What a node does about an address that another one holds.
    pub(super) fn elsewhere(&self, state: &State, me: NodeId, address: IpAddr, may: bool) -> Duty {
        let Some(of) = state.allocations().get(&address) else {
            return Duty::Shut;
        };
        let holder = of.holder.and_then(|holder| mac(state, holder, address));
        let next = of.vacating.is_some() && of.next == Some(me);
        let rested = self.takes_from <= self.looked && !self.lost.contains_key(&address);
        let takes = next && may && rested && !by_mac(state, address);
        match (holder, self.gone.get(&address)) {
            (Some(from), None) if takes => Duty::Take { from },
            (Some(to), Some(until)) => Duty::Hand {
                to,
                until: *until,
                leased: false,
            },
            (Some(_) | None, _) => Duty::Shut,
        }
    }
}

/// Whether some VIP of the address sends packets to backends by MAC.
fn by_mac(state: &State, address: IpAddr) -> bool {
    let of = state.allocations().get(&address);
    let mut vips = of.into_iter().flat_map(|of| of.vips());
    vips.any(|vip| {
        let spec = state.vips().get(vip).map(|vip| &vip.spec);
        spec.is_some_and(|spec| spec.mode == Mode::Dsr && spec.dispatch == Dispatch::L2)
    })
}

/// The MAC of the interface on which `node` would carry the address, while its lease can be running.
fn mac(state: &State, node: NodeId, address: IpAddr) -> Option<Mac> {
    let node = state.node(node).filter(|node| node.lease == Lease::Up)?;
    node.mac_of(carrier(state, node, address)?)
}
