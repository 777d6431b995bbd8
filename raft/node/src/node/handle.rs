//! The handle, and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vipd_core::id::{Epoch, NodeId};
use vipd_core::name::Name;
use vipd_core::node::Role;

use super::{Inbox, Settings};
use crate::beat::{Words, now};
use crate::identity::Identity;
use crate::machine::{Shared, SharedState, StateMachine};
use crate::peer::{Directory, Listener};
use crate::store::{IoThread, LogStore, SharedLog};
use crate::types::Types;

pub(crate) type Raft = openraft::Raft<Types, StateMachine>;

/// The node's part in the cluster. Cheap to clone; [`RaftNode::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct RaftNode {
    pub(crate) core: Arc<Core>,
}

/// What every kind of node has.
pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) shared: Shared,
    pub(crate) directory: Directory,
    /// `None` on an agent.
    pub(crate) voter: Option<Voter>,
    /// Who leads, as far as this node knows.
    pub(crate) leader: watch::Sender<Option<NodeId>>,
    /// When a leader with a majority was last heard, by a node that does not lead.
    pub(crate) heard: watch::Sender<Option<Instant>>,
    /// When this voter last gave a leader up.
    pub(crate) given_up: Mutex<Option<Instant>>,
    /// What beats say of the lead.
    pub(crate) words: Arc<Words>,
    /// Why this node can no longer take part.
    pub(crate) failed: watch::Sender<Option<String>>,
    /// What other members tell this one beside the log.
    pub(crate) inbox: Inbox,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Held from opening until the store is closed.
    pub(crate) lock: Mutex<Option<Flock<File>>>,
}

/// What a Raft member has besides.
pub(crate) struct Voter {
    pub(crate) raft: Raft,
    pub(crate) store: LogStore,
    pub(crate) log: SharedLog,
    pub(crate) io: Mutex<IoThread>,
    pub(crate) listener: OnceLock<Listener>,
    /// Nodes on their way out, which must not be added again meanwhile.
    pub(crate) leaving: Mutex<BTreeSet<NodeId>>,
    /// As a leader it sends nothing to the others: see [`RaftNode::keep_quiet`].
    pub(crate) quiet: Arc<AtomicBool>,
}

impl RaftNode {
    /// This node's number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.core.identity.node
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.core.identity.name
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.core.identity.role
    }

    /// The cluster's random identity.
    #[must_use]
    pub fn cluster(&self) -> [u8; 16] {
        self.core.identity.cluster
    }

    /// Where peers reach it: the port is the one of beats too.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.core.identity.peer
    }

    /// The replicated state as this node has it.
    #[must_use]
    pub fn state(&self) -> SharedState {
        self.core.shared.state()
    }

    /// The index of the last entry applied here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.core.shared.applied()
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.core.leader.subscribe()
    }

    /// Becomes `Some` with the reason, for people, when this node can no longer take part: its disk failed, or it
    /// was removed from the cluster. The daemon should stop then.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.core.failed.subscribe()
    }

    /// The secret half of this node's beat key, for the beat thread.
    #[must_use]
    pub fn beat_secret(&self) -> [u8; 32] {
        self.core.identity.beat_secret
    }

    /// What its beats say of Raft, and those of others, for the beat thread.
    #[must_use]
    pub fn words(&self) -> Arc<Words> {
        self.core.words.clone()
    }

    /// The cluster's CA certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.core.identity.authority.pem()
    }

    /// The node's certificate chain and key, for serving its API: valid for its name, its addresses and
    /// `localhost`, by the cluster's CA.
    #[must_use]
    pub fn certificate(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.core.identity.chain(), self.core.identity.private_key())
    }

    /// Records durably that this voter will never again support `epoch` of `node`.
    ///
    /// # Errors
    /// If the disk failed, and on an agent, which certifies nothing.
    pub async fn persist_fence(&self, node: NodeId, epoch: Epoch) -> io::Result<()> {
        match &self.core.voter {
            Some(voter) => voter.store.persist_fence(node, epoch).await,
            None => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "an agent fences nobody: it has no vote",
            )),
        }
    }

    /// The newest epoch of each node that this voter has fenced.
    #[must_use]
    pub fn fences(&self) -> BTreeMap<NodeId, Epoch> {
        self.core
            .voter
            .as_ref()
            .map(|voter| voter.log.fences())
            .unwrap_or_default()
    }

    /// Stops taking part: closes the listener, stops Raft, flushes and releases the store.
    pub async fn shutdown(&self) {
        self.core.stop.cancel();
        if let Some(voter) = &self.core.voter {
            if let Some(listener) = voter.listener.get() {
                listener.stop().await;
            }
            if let Err(error) = voter.raft.shutdown().await {
                tracing::warn!(%error, "Raft did not stop cleanly");
            }
        }
        self.core.tasks.close();
        self.core.tasks.wait().await;
        self.core.directory.keep_only(|_| false);
        let core = self.core.clone();
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(voter) = &core.voter {
                voter
                    .io
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .stop();
            }
            drop(
                core.lock
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        });
        if flush.await.is_err() {
            tracing::error!("stopping the log thread panicked");
        }
    }
}

impl Core {
    /// Notes that the leader was heard now, through its connection.
    pub(crate) fn hear(&self) {
        self.words.spoke(now());
        self.hear_by_beat();
    }

    /// Notes that the leader was heard now.
    pub(crate) fn hear_by_beat(&self) {
        self.heard.send_replace(Some(Instant::now()));
    }

    /// How long ago the leader was heard; `None` if never.
    pub(crate) fn heard_ago(&self) -> Option<Duration> {
        self.heard.borrow().map(|at| at.elapsed())
    }

    /// Whether a leader was heard so lately that it can be assumed to have a majority.
    pub(crate) fn hears_leader(&self) -> bool {
        self.heard_ago()
            .is_some_and(|ago| ago <= self.settings.election_max * 2)
    }

    /// Notes once why this node can no longer take part. That it is shutting down is no such reason.
    pub(crate) fn fail(&self, why: &str) {
        if self.stop.is_cancelled() {
            return;
        }
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                tracing::error!(%why, "this node can no longer take part in the cluster");
                *failed = Some(why.to_owned());
            }
            first
        });
    }

    /// Whether `node` was removed, as far as this replica knows: neither the state nor the Raft membership has it, though
    /// the replica has passed the entry by which it must have joined.
    pub(crate) fn was_removed(&self, node: NodeId) -> bool {
        let replica = self.shared.read();
        let passed = replica.applied.is_some_and(|id| id.index >= node.0)
            && replica.state.cluster().is_some();
        passed
            && replica.state.node(node).is_none()
            && replica.membership.membership().get_node(&node.0).is_none()
    }

    /// Runs `work` until it ends or the node is shut down.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode")
            .field("identity", &self.core.identity)
            .finish_non_exhaustive()
    }
}
