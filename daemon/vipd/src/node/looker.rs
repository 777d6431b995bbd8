//! What the API asks of the kernel's load balancing: between the datapath's words and those of the API.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vipd_api::{Balancing, ConnectionsOf, ControlError, PacketOf, ServiceAt};
use vipd_api_types::{
    BalanceBounds, ClientAddress, LbAffine, LbBackend, LbConnection, LbConnections, LbEnd,
    LbMaglev, LbOuter, LbService, LbShare, LbTrace, LbTraffic, LbVerdict, MapDump, MapElement,
    MapInfo, Mode, Protocol, XdpUse,
};
use vipd_datapath::{
    Affine, BackendSeen, Bounds, DatapathError, Dispatch, FlowFilter, FlowSeen, Forward, Frontend,
    HookSeen, Lens, Outer, Packet, ServiceSeen, Traffic, Verdict,
};

/// Slots of a table.
const SLOTS: usize = vipd_datapath::SLOTS;

/// Looks through the datapath's lens.
pub(super) struct Looker {
    lens: Box<dyn Lens>,
}

impl Looker {
    pub(super) fn new(lens: Box<dyn Lens>) -> Self {
        Self { lens }
    }
}

impl Looker {
    /// Which interfaces have XDP, and why.
    pub(super) fn xdp(&self) -> BTreeMap<String, XdpUse> {
        let hooks = self.lens.hooks().into_iter();
        let of = |hook: HookSeen| {
            let (used, why) = (hook.xdp, hook.why);
            (hook.interface, XdpUse { used, why })
        };
        hooks.map(of).collect()
    }

    /// By which bounds the kernel balances.
    pub(super) fn bounds(&self) -> BalanceBounds {
        let Bounds {
            flows,
            new_flows,
            collect,
            times,
        } = self.lens.bounds();
        BalanceBounds {
            flows,
            new_flows: new_flows.unwrap_or(u32::MAX),
            collect: duration(collect),
            tcp_opening: duration(times.opening),
            tcp_open: duration(times.open),
            tcp_half_closed: duration(times.half_closed),
            tcp_closing: duration(times.closing),
            udp_question: duration(times.question),
            udp_stream: duration(times.stream),
        }
    }
}

fn duration(time: Duration) -> vipd_api_types::Duration {
    vipd_api_types::Duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Balancing for Looker {
    fn services(&self) -> Result<Vec<LbService>, ControlError> {
        let seen = self.lens.services(None).map_err(unreadable)?;
        Ok(seen.into_iter().map(service).collect())
    }

    fn connections(&self, of: &ConnectionsOf) -> Result<LbConnections, ControlError> {
        let filter = FlowFilter {
            client: of.client,
            vip: of.vip,
            port: of.port,
            backend: of.backend,
            nat: of.nat,
        };
        let seen = self.lens.flows(&filter, of.limit).map_err(unreadable)?;
        Ok(LbConnections {
            node: String::new(),
            items: seen.flows.into_iter().map(connection).collect(),
            matching: seen.matching as u64,
            known: seen.known as u64,
        })
    }

    fn maglev(&self, of: &ServiceAt) -> Result<Option<LbMaglev>, ControlError> {
        let Some(seen) = self.lens.table(frontend(of)).map_err(unreadable)? else {
            return Ok(None);
        };
        let mut counts = vec![0u32; seen.backends.len()];
        for slot in seen.slots.iter().flatten() {
            if let Some(count) = counts.get_mut(usize::from(*slot)) {
                *count += 1;
            }
        }
        let shares = seen.backends.iter().zip(counts);
        let shares = shares.map(|(backend, slots)| LbShare {
            backend: end(*backend),
            slots,
        });
        Ok(Some(LbMaglev {
            node: String::new(),
            table: seen.number,
            digest: String::new(),
            backends: shares.collect(),
            slots: seen.slots,
        }))
    }

    fn affinity(&self, client: IpAddr) -> Result<Vec<LbAffine>, ControlError> {
        let seen = self.lens.affinity(client).map_err(unreadable)?;
        let affine = seen.into_iter().map(
            |Affine {
                 frontend,
                 backend,
                 left,
             }| LbAffine {
                vip: None,
                address: frontend.address,
                port: frontend.port,
                protocol: protocol(frontend.protocol),
                backend: backend.map(end),
                left_ms: left.map(|left| duration(left).0),
            },
        );
        Ok(affine.collect())
    }

    fn maps(&self) -> Result<Vec<MapInfo>, ControlError> {
        let seen = self.lens.maps().map_err(unreadable)?;
        let maps = seen.into_iter().map(|map| MapInfo {
            name: map.name.to_owned(),
            kind: map.kind.to_owned(),
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
        });
        Ok(maps.collect())
    }

    fn map(
        &self,
        name: &str,
        key: Option<&str>,
        limit: usize,
    ) -> Result<Option<MapDump>, ControlError> {
        let Some(found) = self.lens.map(name, key, limit).map_err(unreadable)? else {
            return Ok(None);
        };
        let items = found.elements.into_iter().map(|element| MapElement {
            key: element.key,
            value: element
                .value
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        });
        Ok(Some(MapDump {
            node: String::new(),
            map: name.to_owned(),
            items: items.collect(),
            more: found.more,
        }))
    }

    fn trace(&self, packet: &PacketOf) -> Result<LbTrace, ControlError> {
        let to = frontend(&packet.to);
        let packet = Packet {
            client: packet.client,
            vip: (to.address, to.port),
            protocol: to.protocol,
            opens: packet.opens,
        };
        let seen = self.lens.trace(&packet).map_err(unreadable)?;
        Ok(LbTrace {
            node: String::new(),
            verdict: match seen.verdict {
                Verdict::Passed => LbVerdict::Passed,
                Verdict::Dropped => LbVerdict::Dropped,
                Verdict::Sent => LbVerdict::Sent,
                Verdict::HandedOn => LbVerdict::HandedOn,
            },
            known: seen.known,
            service: seen
                .service
                .map(|it| format!("{}/{}", it.protocol, it.port)),
            backend: seen.backend.map(end),
            affinity: seen.kept,
            source: end(seen.source),
            destination: end(seen.destination),
            outer: seen.outer.map(outer),
            reason: seen.reason.map(str::to_owned),
        })
    }
}

fn frontend(of: &ServiceAt) -> Frontend {
    Frontend {
        address: of.address,
        port: of.port,
        protocol: match of.protocol {
            Protocol::Tcp => vipd_datapath::Protocol::Tcp,
            Protocol::Udp => vipd_datapath::Protocol::Udp,
        },
    }
}

fn unreadable(error: DatapathError) -> ControlError {
    ControlError::Failed {
        what: format!("what the kernel balances cannot be read: {error}"),
        next: "see the log of vipd on this node".into(),
    }
}

fn service(seen: ServiceSeen) -> LbService {
    LbService {
        vip: None,
        address: seen.frontend.address,
        port: seen.frontend.port,
        protocol: protocol(seen.frontend.protocol),
        mode: mode(seen.mode),
        dispatch: match seen.mode {
            Forward::Nat => None,
            Forward::Dsr(by) => Some(dispatch(by)),
        },
        client_address: match seen.mode {
            Forward::Nat if seen.keeps => Some(ClientAddress::Keep),
            Forward::Nat => Some(ClientAddress::Vip),
            Forward::Dsr(_) => None,
        },
        held: false,
        traffic: traffic(seen.traffic),
        backends: seen.backends.into_iter().map(backend).collect(),
    }
}

fn backend(seen: BackendSeen) -> LbBackend {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    LbBackend {
        address: seen.address,
        port: seen.port,
        slots: count(seen.share),
        share: count((seen.share * 10_000 + SLOTS / 2) / SLOTS),
        local: seen.local,
        left_out: seen.left_out.map(|why| why.to_string()),
        traffic: traffic(seen.traffic),
    }
}

fn traffic(seen: Traffic) -> LbTraffic {
    let drops = seen.drops.into_iter().filter(|(_, n)| *n > 0);
    LbTraffic {
        connections: seen.flows,
        packets_in: seen.packets_in,
        bytes_in: seen.bytes_in,
        packets_out: seen.packets_out,
        bytes_out: seen.bytes_out,
        drops: drops.map(|(why, n)| (why.to_owned(), n)).collect(),
    }
}

fn connection(seen: FlowSeen) -> LbConnection {
    LbConnection {
        client: end(seen.client),
        vip: end(seen.vip),
        protocol: protocol(seen.protocol),
        backend: end(seen.backend),
        source: seen.source.map(end),
        mode: mode(seen.mode),
        state: seen.state.to_owned(),
        idle_ms: seen.idle_ns / 1_000_000,
        left_ms: seen.left_ns / 1_000_000,
        packets_in: seen.from_client.0,
        bytes_in: seen.from_client.1,
        packets_out: seen.to_client.0,
        bytes_out: seen.to_client.1,
    }
}

fn end((address, port): (IpAddr, u16)) -> LbEnd {
    LbEnd { address, port }
}

fn mode(mode: Forward) -> Mode {
    match mode {
        Forward::Nat => Mode::Nat,
        Forward::Dsr(_) => Mode::Dsr,
    }
}

fn dispatch(dispatch: Dispatch) -> vipd_api_types::Dispatch {
    match dispatch {
        Dispatch::L2 => vipd_api_types::Dispatch::L2,
        Dispatch::Ipip => vipd_api_types::Dispatch::Ipip,
        Dispatch::Gue => vipd_api_types::Dispatch::Gue,
    }
}

fn outer(outer: Outer) -> LbOuter {
    LbOuter {
        dispatch: dispatch(outer.dispatch),
        source: outer.source,
        destination: outer.destination,
    }
}

fn protocol(protocol: vipd_datapath::Protocol) -> Protocol {
    match protocol {
        vipd_datapath::Protocol::Tcp => Protocol::Tcp,
        vipd_datapath::Protocol::Udp => Protocol::Udp,
    }
}
