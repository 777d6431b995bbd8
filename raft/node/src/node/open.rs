//! Starting a node on its data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use openraft::async_runtime::WatchReceiver;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vipd_core::id::NodeId;

use super::handle::{Core, RaftNode, Voter};
use super::{Inbox, NodeService, Settings, SettingsError, files};
use crate::agent;
use crate::beat::Words;
use crate::identity::{Bootstrap, Identity, IdentityError};
use crate::machine::{Shared, StateMachine};
use crate::peer::{Directory, Listener, Network, Tls};
use crate::store::{IoThread, LogStore, StoreError};
use crate::types::Member;

/// How long the first start of a cluster may take to commit its first entries.
const BOOTSTRAP: Duration = Duration::from_secs(20);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not known who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its settings do not fit together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its log cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its snapshots cannot be used.
    #[error("{0}")]
    Snapshot(io::Error),
    /// Its keys cannot be used.
    #[error(
        "the certificate or key of this node cannot be used: {0}; put back the identity file, or join again"
    )]
    Tls(rustls::Error),
    /// It cannot listen.
    #[error("cannot listen for peers on {listen}: {source}{}", listen_hint(source))]
    Listen {
        /// Where.
        listen: std::net::SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// Raft refused to start.
    #[error("Raft does not start: {0}")]
    Raft(String),
    /// The first entries of a new cluster were not committed.
    #[error("the new cluster did not come to life: {0}")]
    Bootstrap(String),
}

fn listen_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has that port: stop it, or choose another with [cluster] listen"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; no interface of this host has that address: correct [cluster] listen"
        }
        _ => "",
    }
}

impl RaftNode {
    /// Starts the node in `settings.data_dir`: a voter as a Raft member, an agent as a follower of any voter.
    ///
    /// # Errors
    /// [`OpenError`]; nothing runs then.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let identity = Identity::load(&settings.data_dir)?;
        let lock = lock(&settings.data_dir)?;
        let tls = Tls::new(&identity).map_err(OpenError::Tls)?;
        let shared = Shared::default();
        let directory = Directory::new(&identity, tls.clone(), shared.clone());
        let words = Arc::new(Words::new(settings.heartbeat));
        let core = Core {
            settings,
            words,
            given_up: Mutex::default(),
            directory,
            voter: None,
            leader: watch::Sender::new(None),
            heard: watch::Sender::new(None),
            failed: watch::Sender::new(None),
            inbox: Inbox::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lock: Mutex::new(Some(lock)),
            identity,
            shared,
        };
        let core = if core.identity.role.votes() {
            open_voter(core, tls).await?
        } else {
            Arc::new(core)
        };
        watch_removal(&core);
        if core.voter.is_none() {
            core.spawn(agent::follow(core.clone()));
        }
        let node = Self { core };
        if let Err(error) = node.bootstrap().await {
            node.shutdown().await;
            return Err(error);
        }
        Ok(node)
    }

    /// Proposes, once, what `vipd init` left to be proposed.
    async fn bootstrap(&self) -> Result<(), OpenError> {
        let data_dir = &self.core.settings.data_dir;
        let (Some(voter), Some(first)) = (&self.core.voter, Bootstrap::load(data_dir)?) else {
            return Ok(());
        };
        let fail = |error: String| OpenError::Bootstrap(error);
        if !voter
            .raft
            .is_initialized()
            .await
            .map_err(|error| fail(error.to_string()))?
        {
            let members =
                std::collections::BTreeMap::from([(self.id().0, Member { peer: self.peer() })]);
            voter
                .raft
                .initialize(members)
                .await
                .map_err(|error| fail(error.to_string()))?;
        }
        for request in first.requests {
            let outcome = self
                .propose_numbered(request.id, request.proposal.command, None, BOOTSTRAP)
                .await;
            match outcome.map_err(|error| fail(error.to_string()))? {
                Ok(_) | Err(vipd_core::rejection::Rejection::AlreadyBootstrapped) => {}
                Err(rejected) => return Err(fail(rejected.to_string())),
            }
        }
        Ok(Bootstrap::done(data_dir)?)
    }
}

async fn open_voter(core: Core, tls: Tls) -> Result<Arc<Core>, OpenError> {
    let config = core.settings.config(&core.identity.cluster)?;
    let listen = core.settings.listen;
    let socket = TcpListener::bind(listen)
        .await
        .map_err(|source| OpenError::Listen { listen, source })?;
    let dir = core.settings.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || files::open(&dir));
    let files = opened
        .await
        .map_err(|panic| OpenError::Raft(panic.to_string()))??;
    let io = IoThread::start(files.disk).map_err(OpenError::Snapshot)?;
    let store = LogStore::new(files.log, &io);
    let snapshots = files.snapshots.clone();
    let machine = StateMachine::new(core.shared.clone(), files.snapshots);
    let quiet = Arc::new(AtomicBool::new(false));
    let network = Network::new(
        core.identity.node,
        core.directory.clone(),
        quiet.clone(),
        core.words.clone(),
    );
    let raft = openraft::Raft::new(
        core.identity.node.0,
        config,
        network,
        store.clone(),
        machine,
    )
    .await
    .map_err(|error| OpenError::Raft(error.to_string()))?;
    snapshots.release();
    core.shared.announce();
    let voter = Voter {
        raft,
        log: store.shared(),
        store,
        io: Mutex::new(io),
        listener: OnceLock::new(),
        leaving: Mutex::default(),
        quiet,
    };
    let core = Arc::new(Core {
        voter: Some(voter),
        ..core
    });
    if let Some(voter) = &core.voter {
        let listener = Listener::start(socket, tls, Arc::new(NodeService::new(&core)))
            .map_err(|source| OpenError::Listen { listen, source })?;
        tracing::info!(addr = %listener.addr(), node = %core.identity.node, "listening for peers");
        let (bound, known) = (listener.addr(), core.identity.peer);
        if bound.port() != known.port() || !bound.ip().is_unspecified() && bound.ip() != known.ip()
        {
            tracing::warn!(
                %bound, %known,
                "peers reach this node where it said when it was made; unless that is forwarded to where it listens, \
                 they will not find it"
            );
        }
        drop(voter.listener.set(listener));
        let alone = voter.raft.voter_ids().eq([core.identity.node.0]);
        if alone && let Err(error) = voter.raft.trigger().elect(true).await {
            return Err(OpenError::Raft(error.to_string()));
        }
        follow_raft(&core, voter);
        core.spawn(super::members::keep(core.clone()));
        core.spawn(super::ticks::keep(core.clone()));
    }
    Ok(core)
}

/// Keeps the leader and the store's health up to date.
fn follow_raft(core: &Arc<Core>, voter: &Voter) {
    let mut metrics = voter.raft.metrics();
    let own = core.clone();
    core.spawn(async move {
        loop {
            let (leader, fatal) = {
                let now = metrics.borrow_watched();
                (
                    now.current_leader.map(NodeId),
                    now.running_state.as_ref().err().map(ToString::to_string),
                )
            };
            own.leader
                .send_if_modified(|known| std::mem::replace(known, leader) != leader);
            if let Some(fatal) = fatal {
                own.fail(&fatal);
            }
            if metrics.changed().await.is_err() {
                // Nobody but this node's own shutdown may end it, and that ends this task first.
                own.fail("Raft has ended by itself, see the log before this; start vipd again");
                return;
            }
        }
    });
    let mut store = voter
        .io
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .failed();
    let own = core.clone();
    core.spawn(async move {
        if let Ok(failed) = store.wait_for(Option::is_some).await
            && let Some(why) = failed.as_deref()
        {
            own.fail(why);
        }
    });
}

/// A node that was removed must stop: because a peer says so, or because it reads so in its own replica.
fn watch_removal(core: &Arc<Core>) {
    let own = core.clone();
    let mut told = core.directory.removed();
    let mut applied = core.shared.applied();
    core.spawn(async move {
        while !*told.borrow() && !own.was_removed(own.identity.node) {
            let news = tokio::select! {
                news = told.changed() => news,
                news = applied.changed() => news,
            };
            if news.is_err() {
                return;
            }
        }
        own.fail(
            "this node was removed from the cluster; its number cannot be used again. Next: move its data directory \
             and vipd.toml away, and `vipd join` as a new member",
        );
    });
}

/// One process a data directory. The lock goes with the process, however it ends.
fn lock(data_dir: &Path) -> Result<Flock<File>, StoreError> {
    let path: PathBuf = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    let mut text = String::new();
    drop(file.read_to_string(&mut text));
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StoreError::InUse {
            path: path.clone(),
            pid: text.trim().parse().ok(),
        })?;
    let write = |lock: &mut Flock<File>| -> io::Result<()> {
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "{}", std::process::id())
    };
    write(&mut lock).map_err(StoreError::io("write", &path))?;
    Ok(lock)
}
