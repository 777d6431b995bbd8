//! The bytes that vipd's eBPF programs and the daemon share: map keys, map values, map shapes
//! and the frames that both of them put on the wire. Nothing else lives here: no logic of the
//! lease, no policy, no system call.
//!
//! ```text
//!   daemon ──writes──▶ GATE       one deadline for the whole node (CLOCK_BOOTTIME)
//!          ──writes──▶ ADDRESSES  one entry per managed address: open or shut, where, which MAC
//!                      HANDED     when a packet was last handed to this node, per address
//!          ◀──reads─── COUNTERS   per address and CPU
//!          ◀──reads─── CONFLICTS  somebody else uses an address that is open here
//!          ──writes──▶ SERVICES   ports of addresses that are balanced, and their TABLES, BACKENDS
//!          ◀──reads─── FLOWS      the connections of these, and what was counted in TALLY
//! ```
//!
//! An address is answered for, and may be spoken from, exactly while its entry is
//! [`flags::OPEN`] **and** the clock is before the deadline. Everything else is silence, but for
//! the milliseconds of a planned move, in which one node speaks in the right of the other: see
//! [`handing`].
//!
//! **Invariant:** a change of any size, offset or meaning in this crate raises [`SCHEMA`]. The
//! pinned maps of different schemas never meet, because the schema is part of their path. An addition that older programs pass
//! over (a map, a flag, a word that was reserved) does not: a start replaces the programs before it writes any of it.

#![no_std]
// `unsafe impl Pod` for plain `repr(C)` structs without padding; see each SAFETY comment.
#![allow(unsafe_code)]

mod address;
pub mod balance;
mod conflict;
mod counter;
pub mod frame;
mod map;

pub use address::{Address, AddressKey, Entry, flags, handing};
pub use conflict::Conflict;
pub use counter::{Counter, Counters};
pub use map::{MAPS, MapKind, MapSpec, map_flags, max_entries, name};

/// Version of everything in this crate, part of the path of the pins (`…/v3/`).
pub const SCHEMA: u32 = 6;

/// The global variable of the object that names the network namespace of the daemon (`SO_NETNS_COOKIE`), by which programs at
/// sockets know whose these are.
pub const NAMESPACE: &str = "VIPD_NAMESPACE";

/// Names of the programs in the object: one for each direction of an interface, one in front, and those at sockets.
pub mod program {
    /// Sees every frame that enters: answers ARP and NDP, drops what is addressed to a shut VIP.
    pub const INGRESS: &str = "vipd_ingress";
    /// Sees every frame that leaves: drops what is sent from a shut VIP.
    pub const EGRESS: &str = "vipd_egress";
    /// Sees every frame before [`INGRESS`], in the driver of a network card, where that is wanted: sends packets of open
    /// connections on, and leaves everything else to the others.
    pub const XDP: &str = "vipd_xdp";
    /// See sockets of this host connect, send and receive, and ask who their peer is: clients on the holder. Each with
    /// the name of its pin.
    pub const SOCKETS: [(&str, &str); 8] = [
        ("vipd_connect4", "connect4"),
        ("vipd_connect6", "connect6"),
        ("vipd_sendmsg4", "sendmsg4"),
        ("vipd_sendmsg6", "sendmsg6"),
        ("vipd_recvmsg4", "recvmsg4"),
        ("vipd_recvmsg6", "recvmsg6"),
        ("vipd_peername4", "peername4"),
        ("vipd_peername6", "peername6"),
    ];
}

/// The value of the only element of `GATE`: nanoseconds of CLOCK_BOOTTIME (the clock of
/// `bpf_ktime_get_boot_ns`) until which this node may speak. 0, the value of a fresh map: never.
pub type Deadline = u64;
