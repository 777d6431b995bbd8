//! What a [`super::Twin`] says of balancing. No packets pass, so nothing is counted, and flows are those that a test tells
//! of or that are installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tokio::sync::mpsc::{self, Receiver, Sender};
use vipd_datapath_common::balance::{Flow, FlowKey, FlowRecord};

use super::TwinHandle;
use crate::{
    Affine, BackendSeen, Bounds, DatapathError, Elements, FlowFilter, FlowNews, Flows, Frontend,
    Gate, HookSeen, Kept, Lens, MapSeen, Packet, Records, ServiceSeen, TableSeen, Trace, Traffic,
    Verdict, Wanted, WantedService,
    balance::{Recipe, slots},
};

#[derive(Default)]
pub(super) struct Balance {
    flows: BTreeMap<FlowKey, Flow>,
    /// Of each client of a service what was told last.
    kept: BTreeMap<(IpAddr, Frontend), Kept>,
    news: Option<Sender<Vec<FlowNews>>>,
}

impl TwinHandle {
    /// A flow begins or ends in the kernel.
    pub fn flow(&self, news: FlowNews) {
        let mut inside = self.inside();
        match news {
            FlowNews::Made(record) => drop(inside.balance.flows.insert(record.key, record.flow)),
            FlowNews::Gone(key) => drop(inside.balance.flows.remove(&key)),
            FlowNews::Kept(kept) => {
                inside
                    .balance
                    .kept
                    .insert((kept.client, kept.frontend), kept);
            }
        }
        if let Some(sender) = &inside.balance.news {
            // As with the kernel, what nobody has room for is lost.
            let _ = sender.try_send(vec![news]);
        }
    }

    /// The flows that are known.
    #[must_use]
    pub fn flows(&self) -> BTreeMap<FlowKey, Flow> {
        self.inside().balance.flows.clone()
    }

    /// The clients that are kept with backends.
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        self.inside().balance.kept.values().copied().collect()
    }
}

fn serves(wanted: &Wanted, vip: IpAddr) -> bool {
    let address = wanted.addresses.get(&vip);
    address.is_some_and(|address| matches!(address.gate, Gate::Open | Gate::Take { .. }))
}

impl Records for TwinHandle {
    fn news(&self) -> Option<Receiver<Vec<FlowNews>>> {
        let mut inside = self.inside();
        if inside.balance.news.is_some() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(256);
        inside.balance.news = Some(sender);
        Some(receiver)
    }

    fn all(
        &self,
        of: &BTreeSet<IpAddr>,
        each: &mut dyn FnMut(FlowNews),
    ) -> Result<(), DatapathError> {
        for (key, flow) in self.flows() {
            if of.contains(&IpAddr::from(key.destination)) {
                each(FlowNews::Made(FlowRecord { key, flow }));
            }
        }
        let kept = self.kept().into_iter();
        kept.filter(|kept| of.contains(&kept.frontend.address))
            .for_each(|kept| each(FlowNews::Kept(kept)));
        Ok(())
    }

    /// No time passes in it: of each client what was told last.
    fn keep(&self, clients: &[Kept]) -> Result<usize, DatapathError> {
        let mut inside = self.inside();
        for kept in clients {
            inside
                .balance
                .kept
                .insert((kept.client, kept.frontend), *kept);
        }
        Ok(clients.len())
    }

    fn install(&self, flows: &[FlowRecord]) -> Result<usize, DatapathError> {
        let mut inside = self.inside();
        let mut installed = 0;
        for FlowRecord { key, flow } in flows {
            let known = inside.balance.flows.get(key);
            let stays = known == Some(flow)
                || (known.is_some() && serves(&inside.wanted, key.destination.into()));
            if !stays {
                inside.balance.flows.insert(*key, *flow);
                installed += 1;
            }
        }
        Ok(installed)
    }

    fn forget(&self, flows: &[FlowKey]) -> Result<(), DatapathError> {
        let mut inside = self.inside();
        for key in flows {
            if !serves(&inside.wanted, key.destination.into()) {
                inside.balance.flows.remove(key);
            }
        }
        Ok(())
    }
}

/// As if every backend could be reached.
fn table(service: &WantedService) -> TableSeen {
    let backends = service.backends.iter();
    let mut members: Vec<_> = backends
        .filter(|backend| !backend.is_draining())
        .map(|backend| (backend.spot(), backend.weight))
        .collect();
    members.sort_unstable();
    let recipe = Recipe::from(members);
    let backends: Vec<_> = recipe
        .iter()
        .map(|(spot, _)| (spot.address, spot.port))
        .collect();
    let place = |spot| recipe.iter().position(|(other, _)| *other == spot);
    let number = |spot| place(spot).and_then(|place| u32::try_from(place + 1).ok());
    let slots = slots(&recipe, &number);
    TableSeen {
        number: 0,
        slots: slots
            .iter()
            .map(|number| u16::try_from(*number).ok()?.checked_sub(1))
            .collect(),
        backends,
    }
}

impl Lens for TwinHandle {
    fn services(&self, of: Option<Frontend>) -> Result<Vec<ServiceSeen>, DatapathError> {
        let services = self.wanted().services;
        let wanted = |frontend: &Frontend| of.is_none_or(|of| of == *frontend);
        let services = services.iter().filter(|(frontend, _)| wanted(frontend));
        let seen = services.map(|(frontend, service)| {
            let table = table(service);
            let share = |at: (IpAddr, u16)| {
                let leads = |slot: &&Option<u16>| {
                    slot.and_then(|place| table.backends.get(usize::from(place))) == Some(&at)
                };
                table.slots.iter().filter(leads).count()
            };
            let backends = service.backends.iter().map(|backend| BackendSeen {
                address: backend.address,
                port: backend.port,
                share: share((backend.address, backend.port)),
                ifindex: 0,
                local: false,
                left_out: None,
                traffic: Traffic::default(),
            });
            ServiceSeen {
                frontend: *frontend,
                mode: service.mode,
                keeps: service.keep,
                table: 0,
                traffic: Traffic::default(),
                backends: backends.collect(),
            }
        });
        Ok(seen.collect())
    }

    fn table(&self, of: Frontend) -> Result<Option<TableSeen>, DatapathError> {
        Ok(self
            .wanted()
            .services
            .get(&of)
            .map(|service| table(service)))
    }

    fn flows(&self, _filter: &FlowFilter, _at_most: usize) -> Result<Flows, DatapathError> {
        Ok(Flows::default())
    }

    fn maps(&self) -> Result<Vec<MapSeen>, DatapathError> {
        Ok(Vec::new())
    }

    fn map(
        &self,
        _name: &str,
        _key: Option<&str>,
        _at_most: usize,
    ) -> Result<Option<Elements>, DatapathError> {
        Ok(None)
    }

    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    fn hooks(&self) -> Vec<HookSeen> {
        Vec::new()
    }

    fn affinity(&self, _client: IpAddr) -> Result<Vec<Affine>, DatapathError> {
        Ok(Vec::new())
    }

    fn trace(&self, packet: &Packet) -> Result<Trace, DatapathError> {
        let answers = self.answers(packet.vip.0);
        Ok(Trace {
            verdict: if answers {
                Verdict::Passed
            } else {
                Verdict::Dropped
            },
            known: false,
            service: None,
            backend: None,
            kept: false,
            source: packet.client,
            destination: packet.vip,
            outer: None,
            reason: (!answers).then_some("shut"),
        })
    }
}
