//! Reads the ring buffer CONFLICTS.

use std::{collections::VecDeque, net::IpAddr};

use aya::maps::{MapData, RingBuf};

use vipd_datapath_common::Conflict;

/// So many are kept until somebody observes them.
const KEPT: usize = 256;

/// Takes all events out of the ring buffer; returns the addresses in question.
pub(super) fn drain(ring: &mut RingBuf<MapData>, log: &mut VecDeque<Conflict>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    while let Some(item) = ring.next() {
        let Some(event) = Conflict::from_bytes(&item) else {
            continue;
        };
        let address = IpAddr::from(event.address);
        addresses.push(address);
        if log.len() == KEPT {
            log.pop_front();
        }
        log.push_back(event);
    }
    addresses
}
