//! What the datapath shall balance: the services of all VIPs, which follow the entries. Pure.
//!
//! Every node has all of them all the time, so that a takeover opens an address and writes nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd_core::block::Family;
use vipd_core::id::{NodeId, Revision};
use vipd_core::name::Name;
use vipd_core::node::Node;
use vipd_core::service::{
    Affinity, Backend, ClientAddress, Dispatch, Endpoint, Mode, Port, PortSpec, Protocol,
    TrafficPolicy,
};
use vipd_core::state::State;
use vipd_core::vip::{Vip, VipSpec};
use vipd_datapath::{Forward, Frontend, Services, WantedBackend, WantedService};

use super::health::Down;

/// The services of all VIPs, as of an entry.
#[derive(Debug, Default)]
pub(super) struct Balanced {
    services: Arc<Services>,
    /// The frontends that are in there for each VIP.
    of: BTreeMap<Name, Vec<Frontend>>,
    /// The entry that was looked at last, and the last one that changed this node; none yet.
    seen: Option<(u64, Option<Revision>)>,
    /// Backends that are to get no new connections, by what this node sees of them.
    down: Arc<Down>,
}

impl Balanced {
    /// What the datapath shall balance by this state. The same `Arc` as before when nothing has changed; what became of
    /// holders changes nothing, so a failover costs nothing here.
    pub(super) fn follow(&mut self, state: &State, me: NodeId) -> Arc<Services> {
        let me = state.node(me);
        let now = (state.applied(), me.map(|me| me.revision));
        let seen = self.seen.replace(now);
        if seen == Some(now) {
            return self.services.clone();
        }
        // Which backends are this node's own is told by their node's name, and by where the node is.
        let same_node = seen.filter(|(_, node)| *node == now.1);
        let changed = same_node.and_then(|(entry, _)| state.journal().served_since(entry));
        let names: BTreeSet<Name> = match changed {
            Some(names) => names.cloned().collect(),
            None => self.of.keys().chain(state.vips().keys()).cloned().collect(),
        };
        self.put(state, me, names);
        self.services.clone()
    }

    /// Heeds who is down; [`Self::follow`] tells what comes of it.
    pub(super) fn heed(&mut self, state: &State, me: NodeId, down: &Arc<Down>) {
        let before = std::mem::replace(&mut self.down, down.clone());
        let names = before.keys().chain(down.keys());
        let changed = names.filter(|name| before.get(*name) != down.get(*name));
        self.put(state, state.node(me), changed.cloned().collect());
    }

    fn put(&mut self, state: &State, me: Option<&Node>, names: BTreeSet<Name>) {
        // What is taken away first, since another VIP may have it by now.
        let mut gone: BTreeSet<Frontend> = BTreeSet::new();
        let mut come: BTreeMap<Frontend, WantedService> = BTreeMap::new();
        for name in names {
            gone.extend(self.of.remove(&name).into_iter().flatten());
            let vip = state.vips().get(&name);
            let down = self.down.get(&name);
            let vip = vip.into_iter();
            let services: Vec<_> = vip.flat_map(|vip| of_vip(vip, me, down)).collect();
            if !services.is_empty() {
                let frontends = services.iter().map(|(frontend, _)| *frontend);
                self.of.insert(name, frontends.collect());
                come.extend(services);
            }
        }
        gone.retain(|frontend| !come.contains_key(frontend));
        come.retain(|frontend, service| {
            let now = self.services.get(frontend);
            now.is_none_or(|now| **now != *service)
        });
        if gone.is_empty() && come.is_empty() {
            return;
        }
        let services = Arc::make_mut(&mut self.services);
        for frontend in gone {
            services.remove(&frontend);
        }
        for (frontend, service) in come {
            services.insert(frontend, Arc::new(service));
        }
    }
}

/// The services of a VIP on this node: each port of each of its addresses.
fn of_vip(
    vip: &Vip,
    me: Option<&Node>,
    down: Option<&BTreeSet<Endpoint>>,
) -> impl Iterator<Item = (Frontend, WantedService)> {
    let mode = match vip.spec.mode {
        Mode::Local => None,
        Mode::Nat => Some(Forward::Nat),
        Mode::Dsr => Some(Forward::Dsr(match vip.spec.dispatch {
            Dispatch::L2 => vipd_datapath::Dispatch::L2,
            Dispatch::Ipip => vipd_datapath::Dispatch::Ipip,
            Dispatch::Gue => vipd_datapath::Dispatch::Gue,
        })),
    };
    let by_mode = mode.into_iter();
    by_mode.flat_map(move |mode| {
        vip.addresses.iter().flat_map(move |address| {
            vip.spec.ports.iter().map(move |(port, of_port)| {
                let mut backends: Vec<_> =
                    backends(&vip.spec, me, *address, *port, of_port).collect();
                let ill = |at: &Endpoint| down.is_some_and(|down| down.contains(at));
                // When all are down it is more likely that the question is wrong, or that some of them serve all the same.
                if backends.iter().any(|(at, it)| !it.draining && !ill(at)) {
                    for (at, it) in &mut backends {
                        it.draining |= ill(at);
                    }
                }
                let backends = backends.into_iter().map(|(_, backend)| backend).collect();
                let service = WantedService {
                    mode,
                    backends,
                    keep: vip.spec.client == ClientAddress::Keep,
                    affinity: kept(&vip.spec),
                    ranges: vip
                        .spec
                        .sources
                        .iter()
                        .map(|it| (it.address, it.len))
                        .collect(),
                };
                (frontend(*address, *port), service)
            })
        })
    })
}

/// How long clients are kept with their backends, if they are.
fn kept(spec: &VipSpec) -> Option<Duration> {
    match spec.affinity {
        Affinity::None => None,
        Affinity::Client => {
            let time = spec.affinity_timeout.unwrap_or(Affinity::TIMEOUT);
            Some(Duration::from_millis(time.0))
        }
    }
}

fn frontend(address: IpAddr, Port { protocol, port }: Port) -> Frontend {
    Frontend {
        address,
        port,
        protocol: match protocol {
            Protocol::Tcp => vipd_datapath::Protocol::Tcp,
            Protocol::Udp => vipd_datapath::Protocol::Udp,
        },
    }
}

/// Those of the address's family, and by its traffic policy, each with the port that packets for `port` are sent to there.
fn backends<'a>(
    spec: &'a VipSpec,
    me: Option<&'a Node>,
    address: IpAddr,
    port: Port,
    of_port: &'a PortSpec,
) -> impl Iterator<Item = (Endpoint, WantedBackend)> + 'a {
    let family = Family::of(address);
    let fit = spec.backends.iter();
    let fit = fit.filter(move |(at, _)| Family::of(at.address) == family);
    let fit = fit.filter(move |(at, backend)| match spec.traffic {
        TrafficPolicy::Cluster => true,
        TrafficPolicy::Local => me.is_some_and(|me| backend.is_on(at, me)),
    });
    fit.map(move |(at, backend)| {
        let Endpoint { address, port: own } = *at;
        let Backend { weight, node: _ } = backend;
        let target = [own, of_port.target].into_iter().find(|to| *to != 0);
        let wanted = WantedBackend {
            address,
            port: target.filter(|to| *to != port.port).unwrap_or(0),
            weight: u32::from(*weight),
            draining: *weight == 0,
        };
        (*at, wanted)
    })
}

#[cfg(test)]
mod tests;
