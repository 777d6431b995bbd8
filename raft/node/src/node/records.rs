//! What members' daemons tell each other beside the log: the connections that pass through a holder, for who may take
//! over. It is neither agreed on nor kept: what is lost costs a connection, never an address.
//!
//! Only voters can be told: agents do not listen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use vipd_core::id::NodeId;

use super::handle::RaftNode;
use crate::peer::{CallError, Lane, Request, Response};

/// The most bytes told at once: far below what a frame may have.
pub const RECORDS_MAX: usize = 1 << 20;
/// How many tellings wait for the daemon before the tellers are told to come back.
const WAITING: usize = 16;

/// What another member told.
#[derive(Debug)]
pub struct Told {
    /// Who, by its certificate.
    pub from: NodeId,
    /// What.
    pub bytes: Bytes,
}

/// Why a member was not told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// More than [`RECORDS_MAX`].
    #[error("{0} bytes are more than the {RECORDS_MAX} that are told at once")]
    TooMuch(usize),
    /// It did not answer.
    #[error("{0}")]
    Silent(String),
    /// It is an agent, or has too much to do.
    #[error("node {node} does not take records: {why}")]
    Refused {
        /// Which.
        node: NodeId,
        /// Why, in its words.
        why: String,
    },
}

/// Where tellings arrive until the daemon takes them.
pub(crate) struct Inbox {
    sender: mpsc::Sender<Told>,
    receiver: Mutex<Option<mpsc::Receiver<Told>>>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Takes a telling, or says why not. Never waits: whoever tells can come back.
    pub(crate) fn put(&self, from: NodeId, bytes: Bytes) -> Response {
        if bytes.len() > RECORDS_MAX {
            return Response::Failed(TellError::TooMuch(bytes.len()).to_string());
        }
        match self.sender.try_send(Told { from, bytes }) {
            Ok(()) => Response::Done,
            Err(mpsc::error::TrySendError::Full(_)) => {
                Response::Failed("it has yet to read earlier ones".to_owned())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Response::Failed("nobody reads them there".to_owned())
            }
        }
    }
}

impl RaftNode {
    /// Tells the daemon of `to` something, on a lane of its own, and waits until it lies in that daemon's inbox.
    ///
    /// # Errors
    /// [`TellError`]; then it may have arrived or not.
    pub async fn tell(
        &self,
        to: NodeId,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<(), TellError> {
        if bytes.len() > RECORDS_MAX {
            return Err(TellError::TooMuch(bytes.len()));
        }
        let lane = self.core.directory.lane(to, Lane::Records);
        match lane.call(&Request::Records(bytes), patience).await {
            Ok(Response::Done) => Ok(()),
            Ok(Response::Failed(why)) => Err(TellError::Refused { node: to, why }),
            Ok(other) => Err(TellError::Refused {
                node: to,
                why: format!("it answered something else: {other:?}"),
            }),
            Err(CallError::Unreachable(why) | CallError::Unknown(why)) => {
                Err(TellError::Silent(why))
            }
        }
    }

    /// What others tell this node, from now on; `None` if somebody has asked before.
    #[must_use]
    pub fn told(&self) -> Option<mpsc::Receiver<Told>> {
        let receiver = &self.core.inbox.receiver;
        receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
