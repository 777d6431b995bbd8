//! What the programs know of load balancing: services, their backends, and the flows between.
//!
//! ```text
//!   a packet to a VIP ──▶ FLOWS ── known ──▶ rewritten as the flow says
//!                           └─ new ─▶ SERVICES ─▶ TABLES[slot of the flow] ─▶ BACKENDS ─▶ a flow
//!                                        └─ its client was here ─▶ AFFINITY ─▶ MEMBERS ─┘
//! ```
//!
//! Every node that may hold an address has its services all the time, and the same packet gives
//! the same [`slot`] everywhere: whoever takes an address over finds the same backend for a
//! connection that it has never seen.

mod affinity;
mod answer;
mod backend;
mod flow;
mod hash;
mod peer;
mod ports;
mod service;
mod tally;

pub use affinity::{Affinity, AffinityKey, Member};
pub use answer::Answer;
pub use backend::{Backend, backend_flags};
pub use flow::{Claim, Flow, FlowKey, FlowRecord, FragmentKey, Half, Ports, Progress, flow_flags};
pub use hash::{slot, slot_of_client};
pub use peer::{Peer, PeerKey};
pub use ports::SourcePorts;
pub use service::{Range, SLOTS, Service, ServiceKey, Table, service_flags};
pub use tally::{Direction, Reason, Tally, TallyKey};

/// Protocol numbers that are balanced.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

/// The UDP port at which backends take GUE apart (assigned by IANA; `ip fou add port 6080 gue`).
pub const GUE_PORT: u16 = 6080;

/// The only element of `BALANCE`: what holds for the node as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// See [`balance_flags`].
    pub flags: u32,
    /// Most flows that a CPU records in a second; 0: no bound. Beyond it, packets of new flows go
    /// on unrecorded where they can (dsr) and are dropped where they can't (nat), so that a flood
    /// from random sources leaves room in the table.
    pub new_flows: u32,
}

/// Bits of [`Balance::flags`].
pub mod balance_flags {
    /// A backend of a nat service is on this host: what is made here may be an answer of it.
    pub const LOCAL_BACKENDS: u32 = 1;
    /// Flows keep their clients' addresses ([`super::flow_flags::KEEP`]), or services will: what comes in to no managed
    /// address may be an answer of a backend.
    pub const KEPT_CLIENTS: u32 = 1 << 1;
}

/// The value of `GUARD`, one for each CPU: how many flows it has recorded in this second, and
/// how many of these nobody was told of; and how many errors it has sent. Kept by the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// When the second began (CLOCK_BOOTTIME ns).
    pub since: u64,
    /// Flows recorded since.
    pub flows: u64,
    /// Records for `NEW_FLOWS` that found it full, ever.
    pub lost: u64,
    /// ICMP errors made since the second began, by [`Complaint`].
    pub errors: [u16; 3],
    /// How often pieces of packets have come round since, waiting for the first one.
    pub rounds: u16,
}

/// What the holder complains of by ICMP. Each has an account of its own, so that whoever forges packets of one kind
/// silences no other.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// No hop is left: "time exceeded".
    Hops = 0,
    /// The link on which it would go on carries less: "fragmentation needed", "packet too big".
    TooBig = 1,
    /// The same of a packet that would travel inside another one.
    TooBigInside = 2,
}

const _: () = assert!(size_of::<Balance>() == 8 && align_of::<Balance>() == 4);
const _: () = assert!(size_of::<Guard>() == 32 && align_of::<Guard>() == 8);

// SAFETY: `repr(C)`, integers only, and the sizes asserted above leave no padding; in both.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Balance {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Guard {}
