//! Where the other nodes are, and the lanes to them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use vipd_core::id::NodeId;

use super::Tls;
use super::hello::Lane;
use super::link::{Dial, Link, greet};
use crate::identity::Identity;
use crate::machine::Shared;

type Lanes = HashMap<(NodeId, Lane), Arc<Link>>;

/// The address book of a node. Cheap to clone. Every lane to a peer is opened once and shared.
#[derive(Clone)]
pub(crate) struct Directory {
    dial: Arc<Dial>,
    lanes: Arc<Mutex<Lanes>>,
    hints: Arc<RwLock<BTreeMap<NodeId, SocketAddr>>>,
    removed: watch::Receiver<bool>,
}

impl Directory {
    pub(crate) fn new(identity: &Identity, tls: Tls, shared: Shared) -> Self {
        let hints = Arc::new(RwLock::new(
            identity.members.iter().copied().collect::<BTreeMap<_, _>>(),
        ));
        let (report, removed) = watch::channel(false);
        let known = hints.clone();
        let dial = Dial {
            tls,
            cluster: identity.cluster,
            me: identity.node,
            resolve: Box::new(move |node| resolve(&shared, &known, node)),
            removed: Box::new(move || {
                report.send_replace(true);
            }),
            runtime: tokio::runtime::Handle::current(),
        };
        Self {
            dial: Arc::new(dial),
            lanes: Arc::default(),
            hints,
            removed,
        }
    }

    /// Remembers where a node is, for as long as the state does not say.
    pub(crate) fn hint(&self, node: NodeId, addr: SocketAddr) {
        self.hints
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, addr);
    }

    /// The nodes known without the state.
    pub(crate) fn hints(&self) -> Vec<NodeId> {
        self.hints
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect()
    }

    /// The lane to `node`.
    pub(crate) fn lane(&self, node: NodeId, lane: Lane) -> Arc<Link> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes
            .entry((node, lane))
            .or_insert_with(|| Arc::new(Link::new(self.dial.clone(), node, lane)))
            .clone()
    }

    /// Keeps every lane that a sudden election would need open to `node`: a vote, entries and a forwarded proposal
    /// should not have to wait for a handshake first. Whether they are all open already.
    pub(crate) fn keep_warm(&self, node: NodeId) -> bool {
        let lanes = [Lane::Pulse, Lane::Log, Lane::Bulk];
        lanes
            .map(|lane| self.lane(node, lane).warm())
            .into_iter()
            .all(|up| up)
    }

    /// Lets go of the lanes to nodes that are no longer wanted.
    pub(crate) fn keep_only(&self, wanted: impl Fn(NodeId) -> bool) {
        self.lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(node, _), _| wanted(*node));
    }

    /// A greeted connection of one's own.
    pub(crate) async fn open(&self, node: NodeId, lane: Lane) -> io::Result<TlsStream<TcpStream>> {
        greet(&self.dial, node, lane).await
    }

    /// Becomes `true` when a peer says that this node was removed from the cluster.
    pub(crate) fn removed(&self) -> watch::Receiver<bool> {
        self.removed.clone()
    }
}

/// The state's record first, then the Raft membership's, then what the join answered.
fn resolve(
    shared: &Shared,
    hints: &RwLock<BTreeMap<NodeId, SocketAddr>>,
    node: NodeId,
) -> Option<SocketAddr> {
    let replica = shared.read();
    let recorded = replica.state.node(node).map(|record| record.peer);
    recorded
        .or_else(|| {
            replica
                .membership
                .membership()
                .get_node(&node.0)
                .map(|member| member.peer)
        })
        .or_else(|| {
            hints
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&node)
                .copied()
        })
}
