//! Which backends this node looks after: those of the VIPs that it holds, and of those that it would hold next, so that
//! it knows them when it has to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use vipd_core::health::Check;
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::service::Endpoint;
use vipd_core::state::State;

/// A backend of a VIP.
pub(super) type Who = (Name, Endpoint);

/// How to ask a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patient {
    /// Where.
    pub(super) at: SocketAddr,
    /// What, and how often.
    pub(super) check: Arc<Check>,
    /// Whether this node holds an address of the VIP: then it tells the cluster what it finds.
    pub(super) holds: bool,
}

/// Everybody whom `me` looks after by this state.
pub(super) fn patients(state: &State, me: NodeId) -> BTreeMap<Who, Patient> {
    let mut next = Next::of(state, me);
    let mut patients = BTreeMap::new();
    for vip in state.vips().values() {
        let Some(check) = &vip.spec.health else {
            continue;
        };
        let holds = vip.addresses.iter().any(|address| next.holds(address));
        if !holds && !vip.addresses.iter().any(|address| next.would_hold(address)) {
            continue;
        }
        for endpoint in vip.spec.backends.keys() {
            let port = check.port_of(&vip.spec, endpoint.port);
            let patient = Patient {
                at: SocketAddr::new(endpoint.address, port),
                check: check.clone(),
                holds,
            };
            patients.insert((vip.name.clone(), *endpoint), patient);
        }
    }
    patients
}

/// What becomes this node's when others are lost; each other one is looked at once at most.
struct Next<'a> {
    state: &'a State,
    me: NodeId,
    of: BTreeMap<NodeId, BTreeSet<IpAddr>>,
}

impl<'a> Next<'a> {
    fn of(state: &'a State, me: NodeId) -> Self {
        Self {
            state,
            me,
            of: BTreeMap::new(),
        }
    }

    fn holder(&self, address: &IpAddr) -> Option<NodeId> {
        self.state.allocations().get(address)?.holder
    }

    fn holds(&self, address: &IpAddr) -> bool {
        self.holder(address) == Some(self.me)
    }

    fn would_hold(&mut self, address: &IpAddr) -> bool {
        let Some(holder) = self.holder(address) else {
            return false;
        };
        let (state, me) = (self.state, self.me);
        let mine = self.of.entry(holder).or_insert_with(|| {
            let loss = state.loss(holder).into_iter();
            let mine = loss.filter(|(_, next)| *next == Some(me));
            mine.map(|(address, _)| address).collect()
        });
        mine.contains(address)
    }
}
