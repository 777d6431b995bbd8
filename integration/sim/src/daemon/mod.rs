//! The daemon of one host: the core's machines, executed as `vipd` does.

mod agent;
mod answer;
mod beats;
mod boot;
mod driver;
mod heartbeats;
mod leader;
mod members;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Notify;
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::{Datagram, Event, Timing, View};
use vipd_core::node::Role;
use vipd_core::proof::Answer;
use vipd_core::steward::{Came, Purpose, VoteMark};
use vipd_core::time::Instant;
use vipd_raft::parts::{Word, Words};

use crate::bell::Bell;
use crate::host::{Host, Identity};
use crate::lock;
use crate::net::HostId;
use crate::raft::{LogStore, Raft, Shared};
use crate::runtime::{Local, Scope};
use crate::world::{RESTART, World};

pub(crate) use leader::Lost;

/// Datagrams that wait in a socket; more are dropped, as the kernel does.
const SOCKET: usize = 4096;

/// One run of the daemon.
pub(crate) struct Process {
    /// The simulation.
    pub(crate) world: Arc<World>,
    /// Where it runs.
    pub(crate) host: Arc<Host>,
    /// Who it is.
    pub(crate) identity: Identity,
    /// Its lengths.
    pub(crate) timing: Timing,
    /// Its loop, Raft and peers.
    pub(crate) daemon: Scope,
    /// Its beat thread, which can starve by itself.
    pub(crate) beating: Scope,
    /// Its replica.
    pub(crate) shared: Shared,
    /// What only a voter has.
    pub(crate) voter: OnceLock<Voter>,
    /// Who leads, as far as it knows, and its own vote.
    standing: Mutex<(Option<NodeId>, VoteMark)>,
    /// Rings when that changes.
    pub(crate) led: Bell,
    /// When a leader with a majority was last heard.
    heard: Mutex<Option<Local>>,
    inbox: Mutex<Inbox>,
    wake: Arc<Notify>,
    told: Mutex<VecDeque<Told>>,
    /// What has arrived, and when by its clock.
    socket: Mutex<VecDeque<(NodeId, Instant, Word, Datagram)>>,
    beat_wake: Arc<Notify>,
    /// When it last gave a leader up.
    given_up: Mutex<Option<Local>>,
    /// What beats say of the lead.
    words: Arc<Words>,
    /// The membership by which its kernel's deadline was reckoned.
    counted: AtomicU64,
    /// Whether its beats are answered by a majority.
    beats_answered: AtomicBool,
    /// That deadline, in nanoseconds of the host's clock.
    deadline: AtomicU64,
    ended: AtomicBool,
}

/// What only a voter has.
pub(crate) struct Voter {
    /// Raft.
    pub(crate) raft: Raft,
    /// Its log.
    pub(crate) log: LogStore,
    /// Nodes on their way out.
    pub(crate) leaving: Mutex<BTreeSet<NodeId>>,
    /// As a leader it sends nothing to the others.
    quiet: Arc<AtomicBool>,
}

/// What the loop has yet to look at.
#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    finished: Vec<(Purpose, Came)>,
    answers: Vec<(IpAddr, Answer)>,
    caught_up: bool,
    stop: bool,
    reload: bool,
}

/// What the loop tells the beats.
enum Told {
    View(View, BTreeMap<NodeId, HostId>),
    FenceOnDisk(NodeId, Epoch),
    Stretch,
}

impl Process {
    /// Its number.
    #[must_use]
    pub(crate) fn me(&self) -> NodeId {
        self.identity.node
    }

    /// Its role.
    #[must_use]
    pub(crate) fn role(&self) -> Role {
        self.identity.role
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub(crate) fn leader(&self) -> Option<NodeId> {
        lock(&self.standing).0
    }

    /// Whether it has ended.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn vote(&self) -> VoteMark {
        lock(&self.standing).1
    }

    fn set_standing(&self, leader: Option<NodeId>, vote: VoteMark) {
        let before = std::mem::replace(&mut *lock(&self.standing), (leader, vote));
        if before != (leader, vote) {
            self.wake.notify_one();
        }
        if before.0 != leader {
            self.led.ring();
        }
    }

    /// Asks it to give its addresses away and to end.
    pub(crate) fn stop(&self) {
        lock(&self.inbox).stop = true;
        self.wake.notify_one();
    }

    /// Asks it to end and to begin anew within its lease.
    pub(crate) fn reload(&self) {
        lock(&self.inbox).reload = true;
        self.wake.notify_one();
    }

    /// Asks for the longest lease there is.
    pub(crate) fn stretch(&self) {
        lock(&self.told).push_back(Told::Stretch);
        self.beat_wake.notify_one();
    }

    /// Until when its kernel lets it announce, in nanoseconds of the host's clock.
    #[must_use]
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    /// A datagram from `from` for `to` arrives.
    pub(crate) fn receive(&self, from: NodeId, to: NodeId, word: Word, datagram: Datagram) {
        let mut socket = lock(&self.socket);
        if to == self.me() && socket.len() < SOCKET {
            let at = Instant(self.host.clock.now());
            socket.push_back((from, at, word, datagram));
            self.beat_wake.notify_one();
        }
    }

    /// It can no longer take part: it ends, as if it had crashed. Whoever supervises it may start it again.
    pub(crate) fn fail(&self, why: &str) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        self.world
            .trace
            .line(format_args!("{} n{}: ends: {why}", self.host.id, self.me()));
        self.over(RESTART);
    }

    /// It ends, and whoever supervises it may start it again after `pause` nanoseconds.
    fn over(&self, pause: u64) {
        let (world, host) = (self.world.clone(), self.host.clone());
        if !self.ended.swap(true, Ordering::Relaxed) {
            // From outside, for a task cannot drop itself.
            let end = move || world.end_process(&host, pause);
            self.world.net.after(1, Box::new(end));
        }
    }

    /// Whether `node` was removed, as far as its replica knows.
    #[must_use]
    pub(crate) fn was_removed(&self, node: NodeId) -> bool {
        let replica = self.shared.read();
        let passed = replica.applied.is_some_and(|id| id.index >= node.0)
            && replica.state.cluster().is_some();
        let member = replica.membership.membership().get_node(&node.0).is_some();
        passed && replica.state.node(node).is_none() && !member
    }
}
