//! A whole node: built from a configuration and a datapath, run until it is stopped. This is the embedding API.
//!
//! ```text
//!   Config ──check──> Checked ──Node::build(datapath)──> Node ──run──> until Handle::stop
//!                                                         │
//!            raft (log, state)   beats (lease)   api (REST)   driver (the loop that joins them)
//! ```

mod control;
mod driver;
mod gate;
mod health;
mod lateness;
mod looker;
mod notices;
mod probing;
mod records;
mod services;
mod serving;
mod shared;
mod signals;
mod wanted;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use vipd_api::Api;
use vipd_core::name::Name;
use vipd_core::node::Role;
use vipd_core::time::{Instant, Span};
use vipd_datapath::{Datapath, NodeGate};
use vipd_raft::beat::{self, BeatSettings, Beats, Event};
use vipd_raft::{RaftNode, Settings};

use crate::config::Checked;
use control::NodeControl;
use driver::{Beside, Driver};
use gate::KernelGate;
use probing::Probing;
use serving::{Listeners, Serving};
use shared::Shared;

/// A node that is ready to run.
pub struct Node<D> {
    raft: RaftNode,
    driver: Driver<D>,
    events: mpsc::UnboundedReceiver<Event>,
    links: watch::Receiver<u64>,
    api: Api,
    listeners: Listeners,
    stop: watch::Sender<Ask>,
    /// Looks after backends.
    doctor: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Tells other nodes of flows; ends with the node.
    _teller: AbortOnDropHandle<()>,
}

/// What a running node is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ask {
    #[default]
    Nothing,
    Stop,
    Reload,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its VIPs are others' now.
    Stopped,
    /// It still holds its VIPs, by a lease that its kernel keeps for [`RELOAD`]: run it again at once.
    Reload,
}

/// How long a node may be away between [`Ended::Reload`] and its next life, before others take its VIPs: what is left of
/// the longest lease.
pub const RELOAD: Duration = Duration::from_millis(1500);

/// How long requests under way may take when the node stops.
const STOP_REQUESTS: Duration = Duration::from_secs(3);
/// The same when it must be back soon.
const RELOAD_REQUESTS: Duration = Duration::from_millis(100);
/// How long Raft may take to end when the node must be back soon.
const RELOAD_SHUTDOWN: Duration = Duration::from_millis(500);

/// Stops a running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    stop: watch::Sender<Ask>,
}

impl Handle {
    /// Asks the node to give its VIPs to others and to end.
    pub fn stop(&self) {
        self.stop.send_replace(Ask::Stop);
    }

    /// Asks the node to end and to leave its VIPs where they are, for a next life of it that begins at once: with another
    /// version of vipd, or another configuration.
    pub fn reload(&self) {
        self.stop.send_replace(Ask::Reload);
    }
}

impl<D: Datapath + 'static> Node<D> {
    /// Opens the store, the peers, the API and the beats of the node in `config.data_dir`. `links` changes
    /// whenever the host's interfaces do.
    ///
    /// # Errors
    /// With what failed on what, and the next step. Nothing is left running.
    pub async fn build(
        config: Checked,
        mut datapath: D,
        links: watch::Receiver<u64>,
    ) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(&config).await?;
        let meter = datapath.meter().context("the counters in the kernel")?;
        let lens = datapath.lens().context("the services in the kernel")?;
        let records = datapath.records().context("the flows in the kernel")?;
        let gate = datapath.node_gate().context("the gate in the kernel")?;
        let prober = datapath.prober().context("questions to the link")?;
        // Before beats write one: what an earlier life of this node may still answer by.
        let inherited = Instant(gate.deadline());
        let identity = vipd_raft::peer_address(&config.data_dir)?;
        config.is_named(&vipd_raft::joined_name(&config.data_dir)?)?;
        let listen = config.listen.unwrap_or(identity);
        let raft = RaftNode::open(settings(&config, listen)).await?;
        if let Some(role) = config.role.filter(|role| *role != raft.role()) {
            let joined = raft.role();
            raft.shutdown().await;
            anyhow::bail!(
                "node.role is {role}, but this node joined as {joined}: correct it, or join again with a token for {role}"
            );
        }
        let (beats, events) = match start_beats(&config, &raft, listen, gate) {
            Ok(started) => started,
            Err(error) => {
                raft.shutdown().await;
                return Err(error);
            }
        };
        let config = Arc::new(config);
        let exec_dir = config.exec_dir.clone();
        let loopback = config.loopback_ports.clone();
        let shared = Arc::new(Shared::default());
        let (node, stats, timing) = (raft.clone(), beats.stats(), config.timing);
        let control = NodeControl::new(node, shared.clone(), stats, timing, meter, lens);
        let (balances, services) = watch::channel(Arc::default());
        let (ill, down) = watch::channel(Arc::default());
        let doctor = health::keep(raft.clone(), shared.clone(), ill, exec_dir, loopback);
        let probing = Probing::start(prober, shared.clone())?;
        let beside = Beside {
            balances,
            down,
            probing,
        };
        let driver = Driver::new(
            config,
            raft.clone(),
            beats,
            datapath,
            shared,
            inherited,
            beside,
        );
        let teller = records::keep(raft.clone(), records.into(), services);
        let api = Api::new(Arc::new(control));
        let (stop, _) = watch::channel(Ask::Nothing);
        Ok(Self {
            raft,
            driver,
            events,
            links,
            api,
            listeners,
            stop,
            doctor: Box::pin(doctor),
            _teller: AbortOnDropHandle::new(tokio::spawn(teller)),
        })
    }

    /// The name under which it joined.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.raft.name()
    }

    /// What it joined as.
    #[must_use]
    pub fn role(&self) -> Role {
        self.raft.role()
    }

    /// How to stop it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            stop: self.stop.clone(),
        }
    }

    /// Runs until [`Handle::stop`] or [`Handle::reload`], or until it can no longer take part.
    ///
    /// # Errors
    /// Why it can no longer take part.
    pub async fn run(self) -> anyhow::Result<Ended> {
        let serving = Serving::begin(&self.raft, &self.api, self.listeners)?;
        serving.beside(self.doctor);
        info!(node = %self.raft.name(), id = %self.raft.id(), role = %self.raft.role(), "running");
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            warn!("systemd was not told that the node is ready: {error}");
        }
        let result = self
            .driver
            .run(self.events, self.links, self.stop.subscribe())
            .await;
        let (state, patience) = match result {
            Ok(Ended::Reload) => (NotifyState::Status("reloading"), RELOAD_REQUESTS),
            Ok(Ended::Stopped) | Err(_) => (NotifyState::Stopping, STOP_REQUESTS),
        };
        let _nobody_supervises = sd_notify::notify(&[state]);
        if !serving.end(patience).await {
            warn!("some API requests were cut off");
        }
        // What hangs is cut off by a reload: a node that comes back late loses its VIPs, and its store survives kill -9.
        let patience = match result {
            Ok(Ended::Reload) => RELOAD_SHUTDOWN,
            Ok(Ended::Stopped) | Err(_) => Duration::MAX,
        };
        if tokio::time::timeout(patience, self.raft.shutdown())
            .await
            .is_err()
        {
            warn!("Raft did not end in time and is cut off");
        }
        info!("stopped");
        result
    }
}

fn settings(config: &Checked, listen: std::net::SocketAddr) -> Settings {
    let span = |span: Span| Duration::from_nanos(span.0);
    Settings {
        // Beats find out that a leader is gone; Raft's own heartbeats only keep its time-outs from striking, and an idle
        // node pays for each of them, and for five ticks.
        heartbeat: (3 * span(config.timing.beat)).min(span(config.timing.election_min) * 3 / 4),
        election_min: span(config.timing.election_min),
        election_max: span(config.timing.lease),
        ..Settings::new(config.data_dir.clone(), listen)
    }
}

fn start_beats(
    config: &Checked,
    raft: &RaftNode,
    listen: std::net::SocketAddr,
    gate: Box<dyn NodeGate>,
) -> anyhow::Result<(Beats, mpsc::UnboundedReceiver<Event>)> {
    let settings = BeatSettings {
        me: raft.id(),
        listen,
        timing: config.timing,
        on_quorum_loss: config.on_quorum_loss,
        secret: raft.beat_secret(),
    };
    Ok(beat::start(
        settings,
        raft.fences().into_iter().collect(),
        Box::new(KernelGate(gate)),
        raft.words(),
    )?)
}
