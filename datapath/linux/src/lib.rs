//! The user side of vipd's datapath: it loads the eBPF programs, fills their maps, puts
//! addresses on interfaces and announces them.
//!
//! ```text
//!                       Wanted (whole view, again and again)
//!   daemon ────────────────────────▼──────────────────────────────┐
//!                          plan (pure diff)                       │
//!           ┌──────────────┬───────┴───────┬───────────────┐      │ beat thread
//!        map ADDRESSES   rtnetlink     tcx links       announcer  │
//!           │            add, delete   attach, pin    GARP and NA │
//!           ▼                                                     ▼
//!        the programs  ◀──────── GATE: one deadline ◀──────── NodeGate
//! ```
//!
//! - [`Datapath`] is what the daemon needs, [`Kernel`] the real one, [`Twin`] the one in memory.
//! - [`NodeGate`] is the lease in the kernel: nothing answers past its deadline, whatever has
//!   become of the daemon.
//!
//! **Invariants**
//! - Programs sit on an interface, and the entry of an address is in the map, before the address
//!   is put on that interface: the kernel's own ARP and NDP never answer for it.
//! - An address is shut before anything else is done, and opened after everything else is done.
//! - Only addresses that vipd added are ever deleted.
//!
//! Deliberately absent: who holds what (vipd-core), when to beat (vipd-raft).

// Lock-free access to the mapped deadline, raw socket calls; see each SAFETY comment.
#![allow(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod announce;
mod balance;
mod dump;
mod error;
mod hook;
mod kernel;
mod model;
mod netlink;
mod plan;
mod probe;
mod twin;
mod watch;

pub use balance::{
    Affine, BackendSeen, Bounds, Dispatch, FlowFilter, FlowNews, FlowSeen, Flows, Forward,
    Frontend, Kept, LeftOut, Lens, Outer, Packet, Protocol, Records, ServiceSeen, Services,
    TableSeen, Times, Trace, Traffic, Verdict, WantedBackend, WantedService, Why,
};
pub use dump::{Element, Elements, Fields, MapSeen};
pub use error::DatapathError;
pub use hook::{HookSeen, Xdp};
pub use kernel::{Attach, Kernel, OLDEST_KERNEL, Options, boottime_ns, verified};
pub use model::{
    Conflict, Counter, Counts, Datapath, Gate, Interface, Lost, Meter, NodeGate, Observed,
    ObservedAddress, Wanted, WantedAddress,
};
pub use probe::{Heard, Probe, Prober, Said};
pub use twin::{Twin, TwinHandle};
pub use vipd_datapath_common::{
    AddressKey,
    balance::{Flow, FlowKey, FlowRecord, Progress, SLOTS},
    handing,
};
pub use watch::watch_interfaces;

/// The parent folder of the pins when the configuration names no other.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/vipd";

/// How often an address is announced when the configuration does not say: hosts forget a neighbour, and switches a MAC,
/// after minutes.
pub const DEFAULT_REFRESH: std::time::Duration = std::time::Duration::from_secs(30);
