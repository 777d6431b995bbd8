//! What the API asks of the kernel's load balancing: between the datapath's words and those of the API.

use std::net::IpAddr;

use vipd_api::{Balancing, ConnectionsOf, ControlError, PacketOf, ServiceAt};
use vipd_api_types::{
    LbBackend, LbConnection, LbConnections, LbEnd, LbMaglev, LbService, LbShare, LbTrace,
    LbTraffic, LbVerdict, Mode, Protocol,
};
use vipd_datapath::{
    BackendSeen, DatapathError, FlowFilter, FlowSeen, Forward, Frontend, Lens, Packet, ServiceSeen,
    Traffic, Verdict,
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
            source: end(seen.source),
            destination: end(seen.destination),
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
        Forward::Dsr => Mode::Dsr,
    }
}

fn protocol(protocol: vipd_datapath::Protocol) -> Protocol {
    match protocol {
        vipd_datapath::Protocol::Tcp => Protocol::Tcp,
        vipd_datapath::Protocol::Udp => Protocol::Udp,
    }
}
