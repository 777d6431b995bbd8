//! The client's view: it asks without pause, and the longest time without an answer is the outage.

mod gap;
mod http;
mod responder;
mod stream;
mod udp;
mod unpack;

pub use gap::{Gap, gaps, longest_gap};
pub use http::{Browser, Pages};
pub use responder::Responder;
pub use stream::{Conversations, Streamer};
pub use udp::{Probe, Question, Reply};
pub use unpack::{Unpacked, Unpacker};

/// Port of the UDP responder on every server.
pub const UDP_PORT: u16 = 7777;
/// Port of the HTTP responder on every server.
pub const HTTP_PORT: u16 = 80;
/// Port on which a [`Streamer`] talks for as long as it is listened to.
pub const STREAM_PORT: u16 = 7778;
