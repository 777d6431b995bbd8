//! The daemon's end of the beat thread.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::{OnQuorumLoss, Timing};

use super::link::Link;
use super::thread::Beating;
use super::{BeatStats, Event, Gate, View, Words};

/// Room for what arrives while the thread sleeps, in bytes: thousands of datagrams, also where each takes a page.
const BUFFER: usize = 2 * 1024 * 1024;

/// How to beat. `Debug` shows no secret.
#[derive(Clone, Copy)]
pub struct BeatSettings {
    /// This node.
    pub me: NodeId,
    /// Where to receive, UDP.
    pub listen: SocketAddr,
    /// The lengths of the protocol.
    pub timing: Timing,
    /// Whether to go on announcing without a majority.
    pub on_quorum_loss: OnQuorumLoss,
    /// The secret half of this node's beat key.
    pub secret: [u8; 32],
}

impl fmt::Debug for BeatSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeatSettings")
            .field("me", &self.me)
            .field("listen", &self.listen)
            .field("timing", &self.timing)
            .field("on_quorum_loss", &self.on_quorum_loss)
            .finish_non_exhaustive()
    }
}

/// Why the beat thread does not run.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// The UDP port is not to be had.
    #[error(
        "cannot receive beats on UDP {listen}: {error}; choose another cluster.listen, or stop what uses it"
    )]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The system refused something else.
    #[error("cannot start the beat thread: {0}")]
    Start(#[source] std::io::Error),
}

pub(super) enum Told {
    View(Box<View>),
    FenceOnDisk(NodeId, Epoch),
    Stretch,
    /// The kernel's deadline stays as it is: a next life of this daemon takes it over.
    Leave,
    Stop,
}

/// What reaches the thread.
pub(super) struct Ears {
    pub(super) told: Receiver<Told>,
    pub(super) bell: Arc<EventFd>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) stats: Arc<BeatStats>,
}

/// The running beat thread. Dropping it stops the beats, and with them the lease.
pub struct Beats {
    told: Sender<Told>,
    bell: Arc<EventFd>,
    stats: Arc<BeatStats>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Beats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beats")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// Starts beating. `fences` are those on this node's disk; `words` are those of its Raft.
///
/// # Errors
/// [`BeatError`].
pub fn start(
    settings: BeatSettings,
    fences: Vec<(NodeId, Epoch)>,
    gate: Box<dyn Gate>,
    words: Arc<Words>,
) -> Result<(Beats, UnboundedReceiver<Event>), BeatError> {
    let bind = |error| BeatError::Bind {
        listen: settings.listen,
        error,
    };
    let socket = UdpSocket::bind(settings.listen).map_err(bind)?;
    socket.set_nonblocking(true).map_err(bind)?;
    // What arrives may lie for a beat. Without the right to more than the host's `rmem_max`, that has to do.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER).map_err(|error| bind(error.into()))?;
    }
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let bell = Arc::new(EventFd::from_flags(flags).map_err(|e| BeatError::Start(e.into()))?);
    let (told, hears) = mpsc::channel();
    let (events, received) = unbounded_channel();
    let stats = Arc::new(BeatStats::default());
    let ears = Ears {
        told: hears,
        bell: bell.clone(),
        events,
        stats: stats.clone(),
    };
    let link = Link::new(settings.me, socket, settings.secret, words);
    let thread = std::thread::Builder::new()
        .name("vipd-beat".into())
        .spawn(move || Beating::new(settings, fences, gate, link, ears).run())
        .map_err(BeatError::Start)?;
    Ok((
        Beats {
            told,
            bell,
            stats,
            thread: Some(thread),
        },
        received,
    ))
}

impl Beats {
    /// Tells the thread what the cluster looks like now.
    pub fn set_view(&self, view: View) {
        self.tell(Told::View(Box::new(view)));
    }

    /// Where to say that a fence is on the disk, for whoever writes it.
    #[must_use]
    pub fn on_disk(&self) -> OnDisk {
        OnDisk {
            told: self.told.clone(),
            bell: self.bell.clone(),
        }
    }

    /// Asks for the longest lease, see [`vipd_core::lease::Pulse::stretch`]. Look at [`BeatStats::deadline_ns`] for when
    /// it is there.
    pub fn stretch(&self) {
        self.tell(Told::Stretch);
    }

    /// Ends the beats and leaves the kernel its deadline, for a next life of this daemon to take over.
    pub fn leave(mut self) {
        self.end(Told::Leave);
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> Arc<BeatStats> {
        self.stats.clone()
    }

    fn end(&mut self, how: Told) {
        if let Some(thread) = self.thread.take() {
            self.tell(how);
            let _panicked = thread.join();
        }
    }

    fn tell(&self, what: Told) {
        // A thread that is gone has already fenced this node: its deadline runs out by itself.
        if self.told.send(what).is_ok() {
            let _full_means_rung = self.bell.write(1);
        }
    }
}

/// Tells the beat thread of fences on the disk.
#[derive(Clone)]
pub struct OnDisk {
    told: Sender<Told>,
    bell: Arc<EventFd>,
}

impl fmt::Debug for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDisk").finish_non_exhaustive()
    }
}

impl OnDisk {
    /// The fence is on the disk.
    pub fn tell(&self, node: NodeId, epoch: Epoch) {
        if self.told.send(Told::FenceOnDisk(node, epoch)).is_ok() {
            let _full_means_rung = self.bell.write(1);
        }
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.end(Told::Stop);
    }
}

impl Ears {
    pub(super) fn silence_bell(&self) {
        let _nothing_rung = self.bell.read();
    }

    pub(super) fn bell_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_the_settings_shows_no_secret() {
        let settings = BeatSettings {
            me: NodeId(2),
            listen: "192.0.2.2:7400".parse().unwrap(),
            timing: Timing::default(),
            on_quorum_loss: OnQuorumLoss::default(),
            secret: [0xa7; 32],
        };
        for shown in [format!("{settings:?}"), format!("{settings:#?}")] {
            let bare: String = shown.split_whitespace().collect();
            assert!(!bare.contains("167,167"), "{shown}");
        }
        assert!(format!("{settings:?}").contains("192.0.2.2"));
    }
}
