//! Clients that come back to the backend where they were.
//!
//! ```text
//!   a new flow ── AFFINITY: was its client here, and not too long ago? ── MEMBERS: does that backend take new ones? ──▶ there
//!                   └─no──────────────────────────────────────────────────┴─no──▶ the table chooses, and AFFINITY remembers it
//! ```
//!
//! Only new flows come by here. The map is an LRU: a flood of clients that nobody has seen before pushes out those who have not been
//! back for longest, and these are placed by the table, as all were before; never are there more of them.

use vipd_datapath_common::AddressKey;
use vipd_datapath_common::balance::{Affinity, AffinityKey, Backend, Member, Service};

use super::maps;

/// The backend that a client is kept with: it is so from now on for the service's time. `None`: the table chooses.
///
/// What is of an open connection that this node does not know (dsr, after a failover) goes where the newest connection of its client
/// went, however long ago that began: it may well be this one.
///
/// The kernel may give the place of what was just found to another client in the same moment: then this one goes to a backend of
/// the service that is not its own, once, or that one is kept from now on instead of a moment before.
#[inline(never)]
pub fn kept(
    service: &Service,
    client: &AddressKey,
    open: bool,
    now: u64,
) -> Option<&'static Backend> {
    let place = maps::affinity(&AffinityKey {
        client: *client,
        service: service.id,
    })?;
    // SAFETY: aligned, and a live element of some client until the end of the RCU read section; any bytes are a value.
    let known = unsafe { place.read() };
    let member = Member {
        table: service.table,
        backend: known.backend,
    };
    if !(open || known.holds(service.timeout, now)) || !maps::is_member(&member) {
        return None;
    }
    let backend = maps::backend(known.backend)?;
    // SAFETY: as above; nobody reads it in halves.
    unsafe { (&raw mut (*place).seen).write_volatile(now) };
    Some(backend)
}

/// Remembers where a client's flow has begun `now`, unless [`kept`] has just said so.
#[inline(never)]
pub fn note(service: &Service, client: &AddressKey, backend: u32, now: u64) {
    let key = AffinityKey {
        client: *client,
        service: service.id,
    };
    if let Some(place) = maps::affinity(&key) {
        // SAFETY: as above.
        let known = unsafe { place.read() };
        if known.backend == backend && known.seen == now {
            return;
        }
    }
    maps::set_affinity(
        &key,
        &Affinity {
            seen: now,
            backend,
            reserved: 0,
        },
    );
}
