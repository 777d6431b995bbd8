//! Which service a packet is for, and which backend a new flow gets. Functions of their own, never
//! inlined, for the sake of the stack.

use core::hint::black_box;

use vipd_datapath_common::balance::{
    Backend, FlowKey, Range, Service, ServiceKey, service_flags, slot, slot_of_client,
};

use super::{affinity, maps, packet::Packet};
use crate::maps as addresses;

/// The service of a packet: that of its port, else that of all ports.
#[inline(never)]
pub fn service(key: &FlowKey) -> Option<&'static Service> {
    let mut wanted = ServiceKey {
        address: key.destination,
        port: key.destination_port,
        protocol: key.protocol,
        reserved: 0,
    };
    maps::service(&wanted).or_else(|| {
        wanted.port = [0; 2];
        maps::service(&wanted)
    })
}

/// The backend of a flow that is recorded `now`. `open`: of a connection that has begun before, as far as that can be told.
#[inline(never)]
pub fn backend(service: &Service, key: &FlowKey, open: bool, now: u64) -> Option<&'static Backend> {
    let by_client = service.flags & service_flags::BY_CLIENT != 0;
    if by_client && let Some(backend) = affinity::kept(service, &key.source, open, now) {
        return Some(backend);
    }
    let table = maps::table(service.table)?;
    // The compiler knows that a slot is in the table and would leave the test out; the verifier
    // does not.
    let slot = if by_client {
        slot_of_client(key)
    } else {
        slot(key)
    };
    let slot = black_box(slot as usize);
    let number = table.slots.get(slot)?;
    maps::backend(*number)
}

/// Whether a packet without a flow is an answer of one of the service's backends, to a connection that this node does not
/// know, perhaps yet.
#[inline(never)]
pub fn is_answer(service: &Service, packet: &Packet) -> bool {
    service.flags & service_flags::ALL_PORTS != 0
        && !packet.opens()
        && maps::in_range(Range::ANSWERS, packet.key.source)
}

/// Whether a client may begin flows to a service.
#[inline(never)]
pub fn may_use(service: &Service, key: &FlowKey) -> bool {
    service.flags & service_flags::RANGES == 0 || maps::in_range(service.id, key.source)
}

/// Whether the client of a new flow keeps its address. Not where the backend would answer past this host, nor if it is one
/// that nodes hold: what is to that is the business of the fence.
#[inline(never)]
pub fn keeps(service: &Service, backend: &Backend, key: &FlowKey) -> bool {
    service.flags & service_flags::KEEP != 0
        && !backend.is_local()
        && !backend.is_beside(&key.source)
        && addresses::address(&key.source).is_none()
}
