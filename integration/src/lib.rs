//! The lab: three hosts and a client on one wire, made of network namespaces, with faults that can
//! be switched on, a judge on the wire, and a client that asks all the time.
//!
//! ```text
//!                    switch namespace
//!        ┌──────────────────────────────────────┐
//!        │  bridge br0        Tap: every frame  │
//!        │  n1   n2   n3   client   observer    │   <- bridge ports, cut and downed here
//!        └──┬────┬────┬──────┬─────────┬────────┘
//!         eth0 eth0 eth0   eth0      eth0
//!          n1   n2   n3   client   observer         each a namespace: its own kernel stack
//!         vipd vipd vipd   Probe    Asker
//! ```
//!
//! * [`lab`] builds and removes the hosts and does them harm: power cut, freeze, cut wires.
//! * [`wire`] is the judge. [`wire::Tap`] reads every frame that enters the switch and
//!   [`wire::judge`] says whether two hosts ever answered for one address.
//! * [`probe`] is the client: one datagram each millisecond, and the gap it sees is the outage.
//! * [`tools`] are programs of others: curl and its like judge what clients get.
//! * [`cluster`] puts real `vipd` daemons on the hosts; [`demo`] is the show made of all of it.
//! * [`measure`] compares them with others: `cargo xtask bench`.
//!
//! Deliberately absent: anything that vipd itself could get wrong in the same way. The lab shares no
//! code with the daemon: it talks to it through its command line and looks at it from the wire.
//!
//! Everything runs in one process. A thread that has entered a namespace opens its sockets there, so
//! responders and probes need no helper programs, and a lab of five hosts is up in under a second.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
pub mod cluster;
pub mod demo;
pub mod lab;
pub mod measure;
pub mod probe;
mod stamp;
pub mod tools;
pub mod wire;

pub use bench::{Bench, GRACE, Turn};
pub use stamp::Stamp;
