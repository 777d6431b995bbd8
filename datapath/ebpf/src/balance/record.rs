//! How new flows are remembered.

use core::{hint::black_box, mem::MaybeUninit};

use vipd_datapath_common::AddressKey;
use vipd_datapath_common::balance::{
    Backend, Claim, Flow, FlowKey, Half, Progress, Reason, Service, SourcePorts, flow_flags,
    service_flags,
};

use super::encap;
use super::guard;
use super::maps::{self, Stored};
use super::packet::Packet;
use super::state;

/// What is known of a flow that begins.
pub struct Beginning {
    pub service: &'static Service,
    pub backend: &'static Backend,
    /// The interface on which the client's packet came in.
    pub arrival: u32,
    /// CLOCK_BOOTTIME ns.
    pub now: u64,
    /// nat: the backend is elsewhere, and sees the client's own address.
    pub keeps: bool,
}

/// Flows whose backends see the client itself.
const OWN: u32 = flow_flags::LOCAL | flow_flags::KEEP;

/// Records a flow: the client's half, and for nat before it that of the backend, whose key claims
/// a source port.
///
/// One value on the stack for both halves, each written over the other: there is no room for two.
#[inline(never)]
pub fn flow(packet: &Packet, begins: &Beginning) -> Result<(), Reason> {
    let key = &packet.key;
    let (service, backend) = (begins.service, begins.backend);
    let mut half = Half::new(
        key,
        Flow {
            source: key.source,
            destination: *place_of(key, backend),
            source_port: key.source_port,
            destination_port: key.destination_port,
            ifindex: 0,
            flags: 0,
            progress: Progress::default(),
            backend: backend.id,
            service: service.id,
            seen: begins.now,
            packets: 0,
            bytes: 0,
        },
    );
    let mut flow = &mut half.flow;
    if backend.is_local() {
        flow.flags |= flow_flags::LOCAL;
    }
    if backend.is_loopback() {
        flow.flags |= flow_flags::LOOPBACK;
    }
    if begins.keeps {
        flow.flags |= flow_flags::KEEP;
    }
    if service.flags & service_flags::BY_CLIENT != 0 {
        flow.flags |= flow_flags::STICKY;
    }
    if service.flags & service_flags::DSR != 0 {
        let wrapped = encap::flags(service);
        flow.flags |= flow_flags::DSR | wrapped;
        if wrapped != 0 {
            flow.source = backend.source;
        }
    } else {
        let port = backends_half(key, backend, begins.arrival, &mut half)?;
        half.proof = key.proof();
        flow = &mut half.flow;
        flow.destination = *place_of(key, backend);
        flow.destination_port = target(key, backend);
        flow.source_port = port;
        flow.flags &= !flow_flags::REVERSE;
        flow.source = if flow.flags & OWN != 0 {
            key.source
        } else {
            key.destination
        };
    }
    flow.ifindex = if backend.is_local() {
        0
    } else {
        backend.ifindex
    };
    flow.progress = state::shown(packet, flow.has(flow_flags::DSR));
    if !maps::set_flow(key, &half) {
        if !half.flow.has(flow_flags::DSR) {
            maps::remove_flow(&half.flow.other(key.protocol));
        }
        return Err(Reason::TableFull);
    }
    if half.flow.flags & (flow_flags::DSR | flow_flags::LOCAL) == 0
        || half.flow.has(flow_flags::STICKY)
    {
        // Whoever holds the address next shall know it.
        if !maps::report(key, &half.flow) {
            guard::lost();
        }
    }
    Ok(())
}

/// The address that packets for the backend get. One at a loopback address is reached at the virtual IP: the kernel takes nothing
/// in from a link that is to a loopback address.
#[inline(always)]
pub fn place_of<'a>(key: &'a FlowKey, backend: &'a Backend) -> &'a AddressKey {
    if backend.is_loopback() {
        &key.destination
    } else {
        &backend.address
    }
}

/// The port at which the backend is reached.
#[inline(always)]
pub fn target(key: &FlowKey, backend: &Backend) -> [u8; 2] {
    if backend.port == [0; 2] {
        key.destination_port
    } else {
        backend.port
    }
}

/// Records the backend's half under the first source port that is free, and returns that. A backend
/// on this host, or that sees clients' addresses, sees the client's own.
#[inline(always)]
fn backends_half(
    key: &FlowKey,
    backend: &Backend,
    arrival: u32,
    half: &mut Half,
) -> Result<[u8; 2], Reason> {
    let local = backend.is_local();
    let own = half.flow.flags & OWN != 0;
    let flow = &mut half.flow;
    flow.source = key.destination;
    flow.destination = key.source;
    flow.source_port = key.destination_port;
    flow.destination_port = key.source_port;
    flow.flags |= flow_flags::REVERSE;
    flow.ifindex = if local { 0 } else { arrival };
    let Some(place) = maps::claim() else {
        return Err(Reason::TableFull);
    };
    // SAFETY: aligned, this CPU's own, and live until the end of the RCU read section. Of what is written here nothing is read
    // here again.
    let claim = unsafe { &mut *place };
    // One by one: a whole one would be made on the stack first, and 6.1 has no room for it.
    claim.key.source = *place_of(key, backend);
    claim.key.destination = if own { key.source } else { key.destination };
    claim.key.source_port = target(key, backend);
    claim.key.protocol = key.protocol;
    claim.key.reserved = [0; 3];
    claim.half = *half;
    // The client's own by itself: nearly all flows get it, and need no hash.
    match try_port(claim, key.source_port) {
        YES => return Ok(key.source_port),
        TAKEN if own => return Err(Reason::NoPort),
        TAKEN => {}
        _ => return Err(Reason::TableFull),
    }
    let ports = SourcePorts::of(key);
    for attempt in 0..SourcePorts::OTHERS {
        // The verifier sees an end to the loop by the number alone, so the compiler must count by it.
        let port = ports.other(black_box(attempt));
        match try_port(claim, port) {
            YES => return Ok(port),
            TAKEN => {}
            _ => return Err(Reason::TableFull),
        }
    }
    Err(Reason::NoPort)
}

/// Claims the key with this port for the half, see [`vipd_claim`].
#[inline(always)]
fn try_port(claim: &mut Claim, port: [u8; 2]) -> u32 {
    claim.key.destination_port = port;
    claim.half.proof = claim.key.proof();
    black_box(claim);
    vipd_claim()
}

/// What [`vipd_claim`] says.
const YES: u32 = 0;
const TAKEN: u32 = 1;
const NO: u32 = 2;

/// Adds the half that stands in `CLAIM`, unless another client has its key.
///
/// A function that is not static to the verifier, which therefore checks it once and by itself. Another one it would go through
/// in each turn of the loop that calls it, and for each way by which that is reached: three quarters of the time for which a
/// start waits. So it is handed nothing: what came by a pointer of its caller would be no key to Linux 6.1.
///
/// No other packet is recorded on this CPU meanwhile: packets come in softirqs, one at a time. Only a trace (a test run) may be
/// interrupted by one; then that flow's half is written once more, and the trace's is missing until it is forgotten.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vipd_claim() -> u32 {
    let Some(place) = maps::claim() else {
        return NO;
    };
    // SAFETY: as above; nobody writes to it before this returns.
    let (key, half) = unsafe { (&(*place).key, &(*place).half) };
    match claim(key, half) {
        Stored::Yes => YES,
        Stored::Taken => TAKEN,
        Stored::No => NO,
    }
}

/// Adds the backend's half, unless another client has its key. One that belongs to the same client
/// goes on under this flow: another CPU was quicker, or the client's half was collected and this one
/// was not.
#[inline(always)]
fn claim(key: &FlowKey, half: &Half) -> Stored {
    match maps::add_flow(key, half) {
        Stored::Taken => {}
        other => return other,
    }
    let reverse = &half.flow;
    let mut copy = MaybeUninit::uninit();
    let found = maps::flow(key).and_then(|place| place.flow(key, &mut copy));
    let same = found.is_some_and(|found| {
        found.destination == reverse.destination
            && found.destination_port == reverse.destination_port
            && found.source == reverse.source
            && found.source_port == reverse.source_port
    });
    if !same {
        return Stored::Taken;
    }
    if maps::set_flow(key, half) {
        Stored::Yes
    } else {
        Stored::No
    }
}
