//! The pure heart of vipd: what the cluster knows and how it changes.
//!
//! ```text
//!   command ──> state.apply(index, proposal) ──> outcome, events      (every replica, same bytes)
//!   beat, ack, time ──> lease::{Holder, Voter, Takeover} ──> effects  (each node, its own clock)
//! ```
//!
//! Deliberately absent: clocks, sockets, threads, files, random numbers, hash maps. Time inside
//! [`state::State::apply`] is data of the log entry; time inside [`lease`] is an argument. The crate is
//! `no_std`, so the compiler keeps it that way.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod asker;
pub mod backup;
pub mod block;
pub mod by_address;
pub mod codec;
pub mod command;
pub mod event;
pub mod few;
pub mod health;
pub mod id;
pub mod lease;
pub mod name;
pub mod node;
pub mod notice;
pub mod once;
pub mod policy;
pub mod pool;
pub mod proof;
pub mod range_set;
pub mod rejection;
pub mod selector;
pub mod service;
pub mod sharing;
pub mod state;
pub mod steward;
pub mod time;
pub mod token;
pub mod vip;
