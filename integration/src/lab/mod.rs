//! Hosts in network namespaces on one bridge, and the harm that can be done to them.

mod fault;
mod host;
#[expect(
    clippy::module_inception,
    reason = "the folder is the subject, the file its main type"
)]
mod lab;
mod netns;
mod owner;
mod process;
pub(crate) mod run;

pub use host::{Host, Mac};
pub use lab::{Lab, NETWORK_V4, NETWORK_V6};
pub use netns::NetNs;
pub use process::Process;
