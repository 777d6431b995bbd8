//! Typed client of vipd's REST API, over the node's unix socket or over https with a token.
//!
//! Any node answers any request, so there is no leader to look for: connect to one and ask.
//!
//! ```no_run
//! # async fn f() -> Result<(), vipd_client::Error> {
//! use vipd_api_types::Vip;
//! let client = vipd_client::Client::new(&"unix:/run/vipd/api.sock".parse()?, Default::default())?;
//! for vip in client.list::<Vip>().await?.items {
//!     println!("{}", vip.name);
//! }
//! # Ok(()) }
//! ```

mod balance;
mod client;
mod cluster;
mod connect;
mod error;
mod events;
mod objects;
mod select;
mod server;
mod stream;
mod watch;

pub use balance::ConnectionFilter;
pub use client::{Client, Settings};
pub use cluster::RestoreOptions;
pub use error::Error;
pub use events::EventStream;
pub use objects::{Object, Writable, WriteOptions, Written};
pub use select::Selection;
pub use server::{DEFAULT_SOCKET, Server};
pub use watch::WatchStream;
