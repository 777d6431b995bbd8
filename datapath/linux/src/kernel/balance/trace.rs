//! The real program on a packet that nobody sent.

use std::{
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use vipd_datapath_common::balance::{
    Affinity, AffinityKey, Flow, Reason, Service, Tally, service_flags,
};

use super::{
    lens::{KernelLens, affinity_key},
    records::{Numbers, is_told},
};
use crate::{
    DatapathError, FlowNews, Forward, Frontend, Packet, Protocol, Trace, Verdict,
    balance::{ends, unwrap},
    kernel::{boottime_ns, run},
};

/// TCX_NEXT, TCX_DROP and TCX_REDIRECT of linux/bpf.h.
const NEXT: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

impl KernelLens {
    pub(super) fn follow(
        &self,
        program: &OwnedFd,
        packet: &Packet,
    ) -> Result<Trace, DatapathError> {
        let mut table = self.door.open()?;
        let key = packet.key();
        let Some(entry) = table.address(&key.destination)? else {
            // None of the programs' business.
            return Ok(trace(packet, Verdict::Passed));
        };
        let before = table.get(&key)?;
        let packet = Packet {
            // One that begins anew would end the flow that there is.
            opens: packet.opens && before.is_none(),
            ..*packet
        };
        let service = self.service_of(&packet)?;
        let drops = self.drops(service)?;
        let frame = packet.frame(entry.mac).ok_or(DatapathError::Families {
            client: packet.client.0,
            vip: packet.vip.0,
        })?;
        let client = self.client_of(service.map(|(_, service)| service), &packet)?;
        let ran = run::ingress(program.as_fd(), entry.ifindex, &frame);
        let (code, frame) =
            ran.map_err(|error| DatapathError::system("run the program on a frame", error))?;
        let after = table.get(&key)?;
        if let Some(Client { key, known, .. }) = &client
            && self.clients.get(key)? != *known
        {
            self.clients.again()?.set(key, *known)?;
        }
        if let (None, Some(flow)) = (before, after) {
            table.forget(&key, &flow)?;
            if is_told(&flow) {
                self.news.tell(vec![FlowNews::Gone(key)]);
            }
        }
        let flow = before.or(after);
        let verdict = match code {
            REDIRECT if flow.is_some() || service.is_some() => Verdict::Sent,
            REDIRECT => Verdict::HandedOn,
            DROP => Verdict::Dropped,
            NEXT => Verdict::Passed,
            code => {
                let unknown = std::io::Error::other(format!("it returned {code}"));
                return Err(DatapathError::system("run the program on a frame", unknown));
            }
        };
        let wrapped = match how(flow.as_ref(), service.map(|(_, service)| service)) {
            Some(Forward::Dsr(dispatch)) if verdict == Verdict::Sent => unwrap(&frame, dispatch),
            Some(Forward::Dsr(_) | Forward::Nat) | None => None,
        };
        let (outer, frame) = match wrapped {
            Some((outer, inside)) => (Some(outer), inside),
            None => (None, frame),
        };
        let [source, destination] = ends(&frame).unwrap_or([packet.client, packet.vip]);
        let reason = if verdict == Verdict::Dropped {
            Some(reason(&drops, &self.drops(service)?))
        } else {
            None
        };
        Ok(Trace {
            known: before.is_some(),
            service: service.map(|(frontend, _)| frontend),
            backend: flow
                .as_ref()
                .map(|flow| backend(flow, &Numbers::of(&self.numbers))),
            kept: before.is_none()
                && flow.is_some_and(|flow| {
                    client.is_some_and(|client| client.backend == Some(flow.backend))
                }),
            source,
            destination,
            outer,
            reason,
            ..trace(&packet, verdict)
        })
    }

    /// What is known of the client of a packet, where its service keeps clients.
    fn client_of(
        &self,
        service: Option<Service>,
        packet: &Packet,
    ) -> Result<Option<Client>, DatapathError> {
        let keeps = |service: &Service| service.flags & service_flags::BY_CLIENT != 0;
        let Some(service) = service.filter(keeps) else {
            return Ok(None);
        };
        let address = packet.client.0;
        let key = affinity_key(&service, address);
        let open = packet.protocol == Protocol::Tcp && !packet.opens;
        let kept = self.kept(&service, address, open, boottime_ns())?;
        Ok(Some(Client {
            key,
            known: self.clients.get(&key)?,
            backend: kept.map(|(backend, _)| backend.id),
        }))
    }

    /// The service that a packet belongs to.
    fn service_of(&self, packet: &Packet) -> Result<Option<(Frontend, Service)>, DatapathError> {
        for port in [packet.vip.1, 0] {
            let frontend = Frontend {
                address: packet.vip.0,
                port,
                protocol: packet.protocol,
            };
            if let Some(service) = self.service(frontend)? {
                return Ok(Some((frontend, service)));
            }
        }
        Ok(None)
    }

    /// What was dropped for a service, and for none.
    fn drops(&self, service: Option<(Frontend, Service)>) -> Result<Tally, DatapathError> {
        let mut sum = self.tally(0, 0)?;
        let id = service.map(|(_, service)| service.id);
        for key in self
            .tally
            .keys()
            .flatten()
            .filter(|key| Some(key.service) == id)
        {
            sum.add(&self.tally(key.service, key.backend)?);
        }
        Ok(sum)
    }
}

/// A client of a service that keeps clients.
struct Client {
    key: AffinityKey,
    /// What the map has of it.
    known: Option<Affinity>,
    /// The number of the backend that it is kept with.
    backend: Option<u32>,
}

/// As the packet came.
fn trace(packet: &Packet, verdict: Verdict) -> Trace {
    Trace {
        verdict,
        known: false,
        service: None,
        backend: None,
        kept: false,
        source: packet.client,
        destination: packet.vip,
        outer: None,
        reason: None,
    }
}

fn how(flow: Option<&Flow>, service: Option<Service>) -> Option<Forward> {
    let by_flow = flow.map(Forward::of_flow);
    by_flow.or_else(|| service.map(|service| Forward::of_service(service.flags)))
}

fn backend(flow: &Flow, numbers: &Numbers) -> (IpAddr, u16) {
    (
        numbers.backend_of(flow).into(),
        u16::from_be_bytes(flow.destination_port),
    )
}

/// What was counted meanwhile.
fn reason(before: &Tally, after: &Tally) -> &'static str {
    let grew = |reason: &Reason| after.dropped(*reason) > before.dropped(*reason);
    Reason::ALL
        .into_iter()
        .find(grew)
        .map_or("shut", Reason::name)
}
