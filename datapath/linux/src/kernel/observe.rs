//! What the datapath really does, from what was just read back.

use std::net::IpAddr;

use vipd_datapath_common::{Address, flags};

use super::{Kernel, boottime_ns};
use crate::{DatapathError, Gate, Observed, ObservedAddress};

impl Kernel {
    pub(super) fn observed(&self) -> Result<Observed, DatapathError> {
        let mut observed = Observed {
            now_ns: boottime_ns(),
            deadline_ns: self.gate.deadline(),
            interfaces: self.links.attached().values().cloned().collect(),
            conflicts: self.announcer.conflicts(),
            ..Observed::default()
        };
        let alive = observed.now_ns < observed.deadline_ns;
        for (address, entry) in &self.actual.entries {
            let address = (*address, self.observed_address(*address, entry, alive)?);
            observed.addresses.extend([address]);
        }
        Ok(observed)
    }

    fn observed_address(
        &self,
        address: IpAddr,
        entry: &Address,
        alive: bool,
    ) -> Result<ObservedAddress, DatapathError> {
        let open = entry.has(flags::OPEN);
        let present = self.actual.present.get(&address);
        let present = present.is_some_and(|at| at.iter().any(|at| at.ifindex == entry.ifindex));
        let attached = self.links.attached().contains_key(&entry.ifindex);
        Ok(ObservedAddress {
            interface: self.name_of(entry.ifindex),
            gate: if open { Gate::Open } else { Gate::Shut },
            epoch: entry.epoch,
            present,
            foreign: present && !entry.has(flags::ADDED),
            answering: open && alive && present && attached,
            counters: self.maps.counters(address)?,
        })
    }
}
