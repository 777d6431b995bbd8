//! [`RaftNode`]: the node's part in the cluster, as the daemon sees it.
//!
//! ```text
//!   voter:  openraft ── store (log), machine (state), peer (network)     proposes, votes, feeds agents
//!   agent:  follow ── machine (state)                                    proposes through a voter
//! ```

mod files;
mod handle;
pub(crate) mod members;
mod open;
mod propose;
mod read;
mod records;
mod removal;
mod service;
mod settings;
mod standing;
mod status;
mod ticks;
mod tokens;
mod transfer;

pub(crate) use handle::Core;
pub use handle::RaftNode;
pub use open::OpenError;
pub use propose::ProposeError;
pub use read::ReadError;
pub(crate) use records::Inbox;
pub use records::{RECORDS_MAX, TellError, Told};
pub use removal::RemovalError;
pub(crate) use service::NodeService;
pub use settings::{Settings, SettingsError};
pub use status::Status;
pub use tokens::TokenRequestError;
pub use transfer::TransferError;
