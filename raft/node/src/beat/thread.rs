//! The thread itself: wait, take what came, tick, do what [`Pulse`] says.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tracing::{info, warn};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::{Datagram, Effect, Pulse, Timing};
use vipd_core::time::Instant;

use super::arrival::Arrivals;
use super::clock::Standstill;
use super::handle::{BeatSettings, Ears, Told};
use super::link::{Link, Read};
use super::{Gate, Word, now};

/// Datagrams taken before the thread looks at its timers again: enough for hundreds of nodes, and a bound on
/// what a flood can do.
const BATCH: usize = 512;
/// Real-time priority: above ordinary work, below the kernel's own threads.
const PRIORITY: u8 = 20;

enum Next {
    Beat,
    /// End, and leave the kernel its deadline.
    Leave,
    /// End, and be silent.
    Stop,
}

pub(super) struct Beating {
    timing: Timing,
    pulse: Pulse,
    gate: Box<dyn Gate>,
    link: Link,
    ears: Ears,
    deadline: Instant,
    standstill: Standstill,
    /// `None` if the kernel does not say when something arrived: then everything is taken as it comes.
    arrivals: Option<Arrivals>,
    /// The socket was not read empty.
    more: bool,
    /// What was read and not yet taken; empty between steps, kept for its memory.
    read: Vec<(NodeId, Word, Datagram, Option<TimeSpec>)>,
    /// What the pulse wants done; empty between steps, kept for its memory.
    effects: Vec<Effect>,
}

impl Beating {
    pub(super) fn new(
        settings: BeatSettings,
        fences: Vec<(NodeId, Epoch)>,
        gate: Box<dyn Gate>,
        link: Link,
        ears: Ears,
    ) -> Self {
        let BeatSettings {
            me,
            timing,
            on_quorum_loss,
            ..
        } = settings;
        let arrivals = Arrivals::at(link.socket())
            .inspect_err(|error| {
                warn!("the kernel does not say when a beat arrived ({error}): beats cost more when nothing happens");
            })
            .ok();
        Self {
            timing,
            arrivals,
            more: false,
            read: Vec::new(),
            pulse: Pulse::new(me, timing, on_quorum_loss, now(), fences),
            gate,
            link,
            ears,
            deadline: Instant(0),
            standstill: Standstill::default(),
            effects: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        self.ask_for_realtime();
        loop {
            self.wait();
            match self.listen() {
                Next::Beat => {}
                Next::Leave => return,
                Next::Stop => {
                    // No more beats: the deadline in the kernel runs out by itself, unless it is shut here.
                    self.gate.set_deadline(0);
                    self.ears.stats.deadline.store(0, Ordering::Release);
                    return;
                }
            }
            self.look_at_the_clock();
            self.receive();
            if let Some(late) = self.pulse.tick(now(), &mut self.effects) {
                self.ears.stats.note_lateness(late.0 / 1000);
            }
            // Before the news of it: whoever hears of a lost lease may rely on a shut kernel.
            self.write_deadline();
            self.carry_out();
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

    /// Until it is time to tick, the daemon rings, or a datagram is there that must not lie.
    fn wait(&self) {
        let span = self.pulse.next_tick().since(now()).0;
        let span = Duration::from_nanos(span.min(self.timing.beat.0));
        let fds = &mut [
            PollFd::new(self.ears.bell_fd(), PollFlags::POLLIN),
            PollFd::new(self.link.socket_fd(), PollFlags::POLLIN),
        ];
        let may_lie = self.arrivals.is_some() && !self.more && self.pulse.calm(now());
        let fds = if may_lie { &mut fds[..1] } else { &mut fds[..] };
        let timeout = TimeSpec::from_duration(span);
        let _interrupted = ppoll(fds, Some(timeout), Some(SigSet::empty()));
    }

    /// Takes what the daemon said.
    fn listen(&mut self) -> Next {
        self.ears.silence_bell();
        loop {
            match self.ears.told.try_recv() {
                Ok(Told::View(view)) => {
                    self.link.set_peers(&view.peers);
                    self.pulse.set_view(now(), &view.cluster, &mut self.effects);
                }
                Ok(Told::FenceOnDisk(node, epoch)) => {
                    self.pulse
                        .fence_on_disk(now(), node, epoch, &mut self.effects);
                }
                Ok(Told::Stretch) => self.pulse.stretch(now()),
                Ok(Told::Leave) => return Next::Leave,
                Ok(Told::Stop) | Err(TryRecvError::Disconnected) => return Next::Stop,
                Err(TryRecvError::Empty) => return Next::Beat,
            }
        }
    }

    /// After a standstill nothing is believed that was granted before it.
    fn look_at_the_clock(&mut self) {
        if let Some(span) = self.standstill.look() {
            self.pulse.clock_jumped(now(), &mut self.effects);
            self.ears.stats.note_standstill(span.as_millis());
        }
    }

    fn receive(&mut self) {
        let began = now();
        self.more = true;
        for _ in 0..BATCH {
            match self.link.receive() {
                Read::Empty => {
                    self.more = false;
                    break;
                }
                Read::Rejected => {
                    self.ears.stats.rejected.fetch_add(1, Ordering::Relaxed);
                }
                Read::From(from, word, datagram, stamp) => {
                    self.ears.stats.received.fetch_add(1, Ordering::Relaxed);
                    self.read.push((from, word, datagram, stamp));
                }
            }
        }
        let batch = self.arrivals.as_mut().map(|all| all.batch(began));
        for (from, word, datagram, stamp) in self.read.drain(..) {
            let at = batch.map_or_else(now, |batch| batch.arrived(stamp));
            self.link.note(from, word, at);
            self.pulse
                .on_datagram(at, from, datagram, &mut self.effects);
        }
    }

    fn write_deadline(&mut self) {
        let deadline = self.pulse.deadline();
        let stats = &self.ears.stats;
        if deadline != self.deadline {
            self.deadline = deadline;
            self.gate.set_deadline(deadline.0);
            stats.deadline.store(deadline.0, Ordering::Release);
        }
        // After the deadline: whoever reads it may rely on the older voters being asked no more.
        let membership = self.pulse.membership();
        stats.membership.store(membership, Ordering::Release);
        let answered = self.pulse.answered(now());
        stats.answered.store(answered, Ordering::Release);
    }

    fn carry_out(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, datagram } => {
                    let counted = matches!(datagram, Datagram::Beat { .. });
                    if self.link.send(to, datagram) && counted {
                        self.ears.stats.sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Effect::Tell(event) => {
                    // Nobody listens any more when the daemon is going down.
                    let _going_down = self.ears.events.send(event);
                }
            }
        }
    }
}
