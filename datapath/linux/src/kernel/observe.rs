//! What the datapath really does, from what was just read back.

use std::net::IpAddr;

use vipd_datapath_common::{Address, flags};

use super::{Kernel, boottime_ns};
use crate::{Conflict, Gate, Observed, ObservedAddress};

impl Kernel {
    pub(super) fn observed(&mut self) -> Observed {
        let mut observed = Observed {
            now_ns: boottime_ns(),
            deadline_ns: self.gate.deadline_ns(),
            interfaces: self.links.names().cloned().collect(),
            conflicts: self.conflicts(),
            lost: std::mem::take(&mut self.lost),
            left_out: self.balancer.left_out(),
            ..Observed::default()
        };
        let alive = observed.now_ns < observed.deadline_ns;
        for (address, entry) in &self.actual.entries {
            let seen = self.observed_address(*address, entry, alive);
            observed.addresses.insert(*address, seen);
        }
        observed
    }

    fn conflicts(&self) -> Vec<Conflict> {
        let conflicts = self.announcer.conflicts().into_iter();
        let told = conflicts.map(|conflict| Conflict {
            address: conflict.address.into(),
            interface: self.name_of(conflict.ifindex),
            mac: conflict.mac,
            time_ns: conflict.time_ns,
        });
        told.collect()
    }

    fn observed_address(&self, address: IpAddr, entry: &Address, alive: bool) -> ObservedAddress {
        let open = entry.has(flags::OPEN);
        let present = self.actual.present.get(&address);
        let present = present.is_some_and(|at| at.iter().any(|at| at.ifindex == entry.ifindex));
        let attached = self.links.has(entry.ifindex);
        ObservedAddress {
            interface: self.name_of(entry.ifindex),
            gate: gate(entry),
            epoch: entry.epoch,
            present,
            foreign: present && !entry.has(flags::ADDED),
            answering: open && alive && present && attached,
        }
    }
}

fn gate(entry: &Address) -> Gate {
    if entry.has(flags::OPEN) {
        Gate::Open
    } else if entry.has(flags::TAKE) {
        Gate::Take { from: entry.peer }
    } else if entry.has(flags::HAND) {
        Gate::Hand {
            to: entry.peer,
            until_ns: entry.until,
            leased: entry.has(flags::LEASED),
        }
    } else {
        Gate::Shut
    }
}
