//! Flows as nodes tell them to each other, so that whoever takes an address over knows its connections.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use tokio::sync::mpsc::Receiver;
use vipd_datapath_common::balance::{FlowKey, FlowRecord};

use super::Frontend;
use crate::DatapathError;

/// What became of a flow of nat to a backend on another host. Only of those is another node told: everything else it works
/// out by itself. It could do so where backends see clients' addresses, too, as long as its table is the one by which
/// the flow began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowNews {
    /// It was recorded: its client's half.
    Made(FlowRecord),
    /// It is over, and was forgotten: the key of its client's half.
    Gone(FlowKey),
    /// A client that its service keeps with a backend has begun a flow.
    Kept(Kept),
}

/// Where a service has a client come back to. By the table alone another node would not know that once backends have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The client.
    pub client: IpAddr,
    /// The service.
    pub frontend: Frontend,
    /// The backend, as [`super::WantedBackend`] names it: port 0 is the one that clients ask for.
    pub backend: (IpAddr, u16),
    /// How long ago its newest flow began.
    pub age: Duration,
}

/// The flows of this node, for whoever carries them to another. On any thread.
pub trait Records: Send + Sync {
    /// The news from here on, in batches of 512 at most, a few milliseconds old. Once: `None` if they have been
    /// taken. Batches that the receiver has no room for are lost, and counted in the log.
    fn news(&self) -> Option<Receiver<Vec<FlowNews>>>;

    /// Gives each flow of these virtual IPs, and each client that is kept with a backend. Blocks for as long as it takes to
    /// read all of them (about 0.3 µs each).
    ///
    /// # Errors
    /// If the kernel does not let a map be read.
    fn all(
        &self,
        of: &BTreeSet<IpAddr>,
        each: &mut dyn FnMut(FlowNews),
    ) -> Result<(), DatapathError>;

    /// Records flows of another node, with the interfaces and numbers of this one; how many it took. One that this
    /// node has is replaced, and so as young as if it had just come, unless the address is open here: then this node knows better.
    ///
    /// # Errors
    /// The first one, if the table is full or cannot be written. The flows before it are recorded.
    fn install(&self, flows: &[FlowRecord]) -> Result<usize, DatapathError>;

    /// Keeps clients where another node has kept them; how many it took. Not one of which this node knows a newer flow, nor one of a
    /// service or a backend that this node does not know (yet).
    ///
    /// # Errors
    /// The first one, if the map cannot be read or written. The clients before it are kept.
    fn keep(&self, clients: &[Kept]) -> Result<usize, DatapathError>;

    /// Forgets flows of addresses that are not open here; the keys are those of the client's halves.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn forget(&self, flows: &[FlowKey]) -> Result<(), DatapathError>;
}
