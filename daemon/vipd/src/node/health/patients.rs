//! Which backends this node looks after: those of the VIPs that it holds, of those that it would hold next, so that it knows
//! them when it has to, and of those that it has let go because all backends were down, so that it can say when one is up
//! again. Of VIPs of mode `local` that is its own program, where clients would reach it if its address were the VIP. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use vipd_core::block::Family;
use vipd_core::health::{AllDown, Check};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Node;
use vipd_core::service::{Endpoint, Mode, Protocol, TrafficPolicy};
use vipd_core::state::State;
use vipd_core::vip::Vip;

/// A backend of a VIP.
pub(super) type Who = (Name, Endpoint);

/// How to ask a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patient {
    /// Where.
    pub(super) at: SocketAddr,
    /// What, and how often.
    pub(super) check: Arc<Check>,
    /// Whether this node would send connections to it, if it held the VIP.
    pub(super) counts: bool,
    /// Whether this node holds an address of the VIP: then it tells the cluster what it finds.
    pub(super) holds: bool,
    /// The VIP's address to ask from: what comes from there must find its way back.
    pub(super) from: Option<IpAddr>,
}

/// A VIP that leaves this node when all of its backends are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Whether the cluster knows that they are, as this node sees them.
    pub(super) told: bool,
}

/// Whom `me` looks after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Patients {
    pub(super) all: BTreeMap<Who, Patient>,
    pub(super) leaving: BTreeMap<Name, Leaving>,
}

/// Everybody whom `me` looks after by this state.
pub(super) fn patients(state: &State, me: NodeId) -> Patients {
    let mut next = Next::of(state, me);
    let mut patients = Patients::default();
    for vip in state.vips().values() {
        let Some(check) = &vip.spec.health else {
            continue;
        };
        let held = |address: &&IpAddr| {
            let of = state.allocations().get(address);
            of.is_some_and(|of| of.holder == Some(me))
        };
        let holds = vip.addresses.iter().any(|address| held(&address));
        let told = state.blind_to(&vip.name).any(|node| node == me);
        if !holds && !told && !vip.addresses.iter().any(|at| next.would_hold(at)) {
            continue;
        }
        if check.all_down == AllDown::Withdraw {
            patients.leaving.insert(vip.name.clone(), Leaving { told });
        }
        if vip.spec.mode == Mode::Local {
            let (me, port) = (state.node(me), check.port_of(&vip.spec, 0));
            for address in vip.addresses.iter().filter_map(|at| me?.beside(*at)) {
                let patient = Patient {
                    at: SocketAddr::new(address, port),
                    check: check.clone(),
                    counts: true,
                    holds,
                    from: None,
                };
                let endpoint = Endpoint { address, port };
                patients.all.insert((vip.name.clone(), endpoint), patient);
            }
        }
        for (endpoint, backend) in &vip.spec.backends {
            let port = check.port_of(&vip.spec, endpoint.port);
            let own = own(vip, endpoint, state.node(me));
            let family = Family::of(endpoint.address);
            let same = |address: &&IpAddr| Family::of(**address) == family;
            let from = vip.addresses.iter().filter(held).find(same);
            let patient = Patient {
                at: SocketAddr::new(endpoint.address, port),
                check: check.clone(),
                counts: backend.weight > 0 && own && vip.addresses.iter().any(|at| same(&at)),
                holds,
                from: from
                    .filter(|_| asks_as_the_vip(vip, check) && !endpoint.address.is_loopback())
                    .copied(),
            };
            patients.all.insert((vip.name.clone(), *endpoint), patient);
        }
    }
    patients
}

/// Whether this node uses the backend when it holds the VIP.
fn own(vip: &Vip, at: &Endpoint, me: Option<&Node>) -> bool {
    let on = |me: &Node| vip.spec.backends.get(at).is_some_and(|it| it.is_on(at, me));
    match vip.spec.traffic {
        TrafficPolicy::Cluster => true,
        TrafficPolicy::Local => me.is_some_and(on),
    }
}

/// In mode `nat` a backend sees the VIP as its client, and must be able to answer it. With `dsr` it has that address itself. And
/// where the VIP claims all ports, the answer would be taken for a client's packet. (What is at a loopback address sees others than clients.)
fn asks_as_the_vip(vip: &Vip, check: &Check) -> bool {
    let protocol: Protocol = check.question.protocol();
    let mut ports = vip.spec.ports.keys();
    let all = ports.any(|port| port.port == 0 && port.protocol == protocol);
    vip.spec.mode == Mode::Nat && !all
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
