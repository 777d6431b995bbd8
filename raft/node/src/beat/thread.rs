//! The thread itself: wait, take what came, judge, beat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tracing::{info, warn};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::{Ack, Beat, Datagram, Holder, Voter};
use vipd_core::time::{Instant, Span};

use super::handle::{BeatSettings, Ears, Told};
use super::link::{Link, Read};
use super::{Event, Gate, View, now};

/// Datagrams taken before the thread looks at its timers again: enough for hundreds of nodes, and a bound on
/// what a flood can do.
const BATCH: usize = 512;
/// Certificates in one beat; it must fit a datagram. The rest travel in the next ones.
const CERTIFICATES: usize = 60;
/// Real-time priority: above ordinary work, below the kernel's own threads.
const PRIORITY: u8 = 20;

pub(super) struct Beating {
    me: NodeId,
    period: Span,
    lease: Span,
    /// Members whose lease has another length; told once.
    differing: BTreeSet<NodeId>,
    holder: Holder,
    voter: Voter,
    votes: bool,
    membership: u64,
    gate: Box<dyn Gate>,
    link: Link,
    ears: Ears,
    next_beat: Instant,
    deadline: Instant,
    held: bool,
    /// What each voter was last heard to certify, so that news is told once.
    certified: BTreeMap<(NodeId, NodeId), Epoch>,
    /// Which certificates the next beat begins with.
    turn: usize,
}

impl Beating {
    pub(super) fn new(
        settings: BeatSettings,
        fences: Vec<(NodeId, Epoch)>,
        gate: Box<dyn Gate>,
        link: Link,
        ears: Ears,
    ) -> Self {
        let at = now();
        Self {
            me: settings.me,
            period: settings.timing.beat,
            lease: settings.timing.lease,
            differing: BTreeSet::new(),
            holder: Holder::new(settings.timing),
            voter: Voter::new(settings.timing, at, fences),
            votes: false,
            membership: 0,
            gate,
            link,
            ears,
            next_beat: at,
            deadline: Instant(0),
            held: false,
            certified: BTreeMap::new(),
            turn: 0,
        }
    }

    pub(super) fn run(mut self) {
        self.ask_for_realtime();
        loop {
            self.wait();
            if !self.listen() {
                // No more beats: the deadline in the kernel runs out by itself, unless it is shut here.
                self.gate.set_deadline(0);
                self.ears.stats.deadline.store(0, Ordering::Release);
                return;
            }
            self.receive();
            self.judge();
            self.beat_if_due();
            self.write_deadline();
        }
    }

    fn ask_for_realtime(&self) {
        let Ok(priority) = ThreadPriorityValue::try_from(PRIORITY) else {
            return;
        };
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        match set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Crossplatform(priority),
            policy,
        ) {
            Ok(()) => {
                self.ears.stats.realtime.store(true, Ordering::Relaxed);
                info!("beats run in the real-time class");
            }
            Err(error) => warn!(
                "beats run in the ordinary class ({error:?}): under load they may be late; give vipd CAP_SYS_NICE \
                 (AmbientCapabilities= in its unit)"
            ),
        }
    }

    fn wait(&self) {
        let at = now();
        let voter = if self.votes {
            self.voter.next_tick()
        } else {
            None
        };
        let until = voter.map_or(self.next_beat, |tick| tick.min(self.next_beat));
        let span = until.since(at).0.min(self.period.0);
        let timeout = TimeSpec::from_duration(std::time::Duration::from_nanos(span));
        let mut fds = [
            PollFd::new(self.link.socket_fd(), PollFlags::POLLIN),
            PollFd::new(self.ears.bell_fd(), PollFlags::POLLIN),
        ];
        let _interrupted = ppoll(&mut fds, Some(timeout), Some(SigSet::empty()));
    }

    /// Takes what the daemon said; `false` to stop.
    fn listen(&mut self) -> bool {
        self.ears.silence_bell();
        loop {
            match self.ears.told.try_recv() {
                Ok(Told::View(view)) => self.take_view(&view),
                Ok(Told::FenceOnDisk(node, epoch)) => {
                    self.voter.fenced(node, epoch);
                    self.note_certificate(self.me, node, epoch);
                    // At once: a leader may be waiting for it.
                    self.next_beat = now().min(self.next_beat);
                }
                Ok(Told::Stop) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
            }
        }
    }

    fn take_view(&mut self, view: &View) {
        self.holder.set_epoch(view.epoch);
        if let Some(voters) = &view.voters {
            self.holder.set_voters(voters);
        }
        self.votes = view.votes;
        self.membership = view.membership;
        self.voter.set_leases(now(), view.leases.iter().copied());
        self.link.set_peers(&view.peers);
        let running: BTreeMap<NodeId, Epoch> = view.leases.iter().copied().collect();
        self.certified
            .retain(|(_, node), epoch| running.get(node).is_some_and(|now| now <= epoch));
        // A fence of an earlier life certifies a lease that is still running by the log.
        let own: Vec<_> = self.voter.certificates().collect();
        if self.votes {
            for (node, epoch) in own {
                self.note_certificate(self.me, node, epoch);
            }
        }
    }

    fn receive(&mut self) {
        for _ in 0..BATCH {
            match self.link.receive() {
                Read::Empty => return,
                Read::Rejected => {
                    self.ears.stats.rejected.fetch_add(1, Ordering::Relaxed);
                }
                Read::From(from, datagram) => {
                    self.ears.stats.received.fetch_add(1, Ordering::Relaxed);
                    match datagram {
                        Datagram::Beat { beat } => self.on_beat(from, beat),
                        Datagram::Ack { ack } => self.on_ack(from, ack),
                    }
                }
            }
        }
    }

    fn on_beat(&mut self, from: NodeId, beat: Beat) {
        if beat.lease != self.lease && self.differing.insert(from) {
            let (theirs, ours) = (beat.lease.as_millis(), self.lease.as_millis());
            warn!(node = %from, "its lease is {theirs} ms, ours {ours} ms: set [lease] alike on all nodes");
        }
        for (node, epoch) in &beat.certificates {
            self.note_certificate(from, *node, *epoch);
        }
        let (true, Some(epoch)) = (self.votes, beat.epoch) else {
            return;
        };
        let Some(verdict) = self.voter.on_beat(now(), from, &beat) else {
            return;
        };
        let ack = Ack {
            seq: beat.seq,
            epoch,
            verdict,
        };
        if from == self.me {
            self.on_ack(from, ack);
        } else {
            let _lost_as_any_may_be = self.link.send(from, &Datagram::Ack { ack });
        }
    }

    fn on_ack(&mut self, from: NodeId, ack: Ack) {
        if self.holder.on_ack(from, ack) {
            self.tell(Event::OwnLeaseFenced { epoch: ack.epoch });
        }
    }

    fn judge(&mut self) {
        if !self.votes {
            return;
        }
        for (node, epoch) in self.voter.tick(now()) {
            self.tell(Event::Fencing { node, epoch });
        }
    }

    fn beat_if_due(&mut self) {
        let at = now();
        if at < self.next_beat {
            return;
        }
        self.ears
            .stats
            .note_lateness(at.since(self.next_beat).0 / 1000);
        // From the plan, not from now, so that lateness does not add up; but never two at once.
        self.next_beat = self.next_beat.after(self.period);
        if self.next_beat <= at {
            self.next_beat = at.after(self.period);
        }
        let all: Vec<_> = if self.votes {
            self.voter.certificates().collect()
        } else {
            Vec::new()
        };
        let certificates: Vec<_> = all
            .iter()
            .cycle()
            .skip(self.turn)
            .take(all.len().min(CERTIFICATES))
            .copied()
            .collect();
        self.turn = if all.len() > CERTIFICATES {
            (self.turn + CERTIFICATES) % all.len()
        } else {
            0
        };
        let beat = Beat {
            seq: self.holder.beat(now()),
            epoch: self.holder.epoch(),
            lease: self.lease,
            heard: 0,
            certificates,
        };
        let voters: Vec<NodeId> = self.holder.voters().collect();
        for voter in voters {
            let beat = Beat {
                heard: self.holder.heard(voter),
                ..beat.clone()
            };
            if voter == self.me {
                self.on_beat(self.me, beat);
            } else if self.link.send(voter, &Datagram::Beat { beat }) {
                self.ears.stats.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn write_deadline(&mut self) {
        let deadline = self.holder.deadline();
        if deadline != self.deadline {
            self.deadline = deadline;
            self.gate.set_deadline(deadline.0);
            self.ears
                .stats
                .deadline
                .store(deadline.0, Ordering::Release);
        }
        // After the deadline: whoever reads it may rely on the older voters being asked no more.
        self.ears
            .stats
            .membership
            .store(self.membership, Ordering::Release);
        let held = now() < deadline;
        if held != self.held {
            self.held = held;
            self.tell(Event::Support { held });
        }
    }

    fn note_certificate(&mut self, voter: NodeId, node: NodeId, epoch: Epoch) {
        let known = self.certified.entry((voter, node)).or_default();
        if epoch > *known {
            *known = epoch;
            self.tell(Event::Certified { voter, node, epoch });
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the daemon is going down.
        let _going_down = self.ears.events.send(event);
    }
}
