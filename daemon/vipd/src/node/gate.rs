//! The beat thread's deadline on its way into the kernel's map.

use vipd_datapath::NodeGate;
use vipd_raft::beat::Gate;

/// Joins the two adapters, which do not know each other.
pub(super) struct KernelGate(pub(super) Box<dyn NodeGate>);

impl Gate for KernelGate {
    fn set_deadline(&mut self, boottime_ns: u64) {
        self.0.set_deadline(boottime_ns);
    }
}
