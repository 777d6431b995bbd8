//! The thread that announces, and the handle to it.

use std::{
    collections::VecDeque,
    net::IpAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::{
    conflicts,
    schedule::{Schedule, Target},
    socket::Sender,
};
use vipd_datapath_common::Conflict;

use crate::DatapathError;

/// Starts and stops announcements.
pub(crate) struct Announcer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    sender: Sender,
    wake: EventFd,
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    schedule: Schedule,
    conflicts: VecDeque<Conflict>,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the schedule whole: every change to it is complete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is due. The lock is held while a batch is sent, so that none leaves after a stop.
    fn send_due(&self) {
        loop {
            let mut state = self.state();
            let batch = state.schedule.due(self.epoch.elapsed());
            if batch.is_empty() {
                return;
            }
            self.sender.announce(&batch);
        }
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the thread is being woken.
        let _ = self.wake.write(1);
    }
}

impl Announcer {
    /// Opens the socket and starts the thread.
    pub(crate) fn spawn(
        conflicts: RingBuf<MapData>,
        refresh: Duration,
    ) -> Result<Self, DatapathError> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| DatapathError::system("make an eventfd", errno))?;
        let shared = Arc::new(Shared {
            sender: Sender::open()?,
            wake,
            epoch: Instant::now(),
            state: Mutex::new(State {
                schedule: Schedule::new(refresh),
                conflicts: VecDeque::new(),
                stopped: false,
            }),
        });
        let thread = thread::Builder::new()
            .name("vipd-announce".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, conflicts)
            })
            .map_err(|source| DatapathError::system("start the announcing thread", source))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Announces them at once, then by the schedule.
    pub(crate) fn start(&self, targets: &[(IpAddr, Target)]) {
        if targets.is_empty() {
            return;
        }
        let now = self.shared.epoch.elapsed();
        {
            let mut state = self.shared.state();
            for (address, target) in targets {
                state.schedule.start(*address, *target, now);
            }
            // Here and now, with but one frame each; the thread does the rest.
            loop {
                let batch = state.schedule.urgent(now);
                if batch.is_empty() {
                    break;
                }
                self.shared.sender.announce(&batch);
            }
        }
        self.shared.wake();
    }

    /// Ends it: no frame of the address leaves after this has returned.
    pub(crate) fn stop(&self, address: IpAddr) {
        self.shared.state().schedule.stop(address);
    }

    /// Conflicts since the last call.
    pub(crate) fn conflicts(&self) -> Vec<Conflict> {
        self.shared.state().conflicts.drain(..).collect()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, mut ring: RingBuf<MapData>) {
    loop {
        {
            let mut state = shared.state();
            if state.stopped {
                return;
            }
            let now = shared.epoch.elapsed();
            for address in conflicts::drain(&mut ring, &mut state.conflicts) {
                // The daemon tells it, and not more often than people can read.
                tracing::debug!(%address, "somebody else claims this address");
                state.schedule.again(address, now);
            }
        }
        shared.send_due();
        let next = shared.state().schedule.next();
        let timeout = next.map(|next| next.saturating_sub(shared.epoch.elapsed()));
        if !wait(shared, &ring, timeout) {
            return;
        }
    }
}

/// Waits for the next frame, a conflict or a change of the schedule; `false` if it cannot.
fn wait(shared: &Shared, ring: &RingBuf<MapData>, timeout: Option<Duration>) -> bool {
    let timeout = match timeout {
        // Rounded up: waking too early would spin.
        Some(timeout) => {
            let ms = timeout.as_millis() + 1;
            PollTimeout::try_from(ms.min(60_000) as i32).unwrap_or(PollTimeout::ZERO)
        }
        None => PollTimeout::NONE,
    };
    let mut fds = [
        PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN),
        PollFd::new(ring.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {
            let _ = shared.wake.read();
            true
        }
        Err(error) => {
            tracing::error!(%error, "the announcing thread cannot wait and ends");
            false
        }
    }
}
