//! When a datagram arrived, on the clock of the lease, whenever it is read.
//!
//! The kernel stamps what arrives with its wall clock. The wall clock and CLOCK_BOOTTIME run at the same rate, and their
//! difference changes only when somebody sets the wall clock (or the host sleeps, see [`super::clock::Standstill`]). The
//! kernel tells of every such set, also of two that cancel out, but only a moment after the new time is there to be read; so
//! the difference of the two clocks is compared with that of the batch before, too. If either says so, the stamps of this
//! batch are not believed: what is not known to have arrived earlier arrived now. So a stamp can make a promise shorter than
//! one that counts from now, but not shorter than one that counts from the true arrival by more than twice [`SLACK`], which
//! is less than what promises have to spare.

use std::net::UdpSocket;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use vipd_core::time::{Instant, Span};

use super::now;

/// As far in the future as no host runs: the year 2255. The timer is there to be cancelled only.
const NEVER: TimeSpec = TimeSpec::new(9_000_000_000, 0);

/// What the readings of the two clocks may lie apart, and what their difference may seem to have changed by.
const SLACK: Span = Span(500_000);

/// What is known of datagrams that were read together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// The two clocks after the last of them was read.
    wall: TimeSpec,
    boot: Instant,
    /// Nobody has set the wall clock since the batch before.
    believed: bool,
    /// The socket was empty then.
    not_before: Instant,
}

/// Reckons when datagrams arrived.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Says that the wall clock was set.
    set: TimerFd,
    ahead: Ahead,
    /// Whatever is read next arrived after this.
    empty_at: Instant,
}

impl Arrivals {
    /// Has the kernel stamp what arrives at `socket`.
    ///
    /// # Errors
    /// If the kernel does not stamp datagrams, or does not tell when its clock is set.
    pub(super) fn at(socket: &UdpSocket) -> Result<Self, Errno> {
        setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let set = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let cancel =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        set.set(Expiration::OneShot(NEVER), cancel)?;
        Ok(Self {
            set,
            ahead: Ahead::default(),
            empty_at: now(),
        })
    }

    /// Call it when the socket is empty, once all of what it had since `began` was read.
    pub(super) fn batch(&mut self, began: Instant) -> Batch {
        // In this order: the lease's clock after the wall clock makes arrivals later, not earlier.
        let before = now();
        let wall = clock_gettime(nix::time::ClockId::CLOCK_REALTIME);
        let boot = now();
        let steady = self.ahead.is_as_it_was(before, wall.ok(), boot);
        let batch = Batch {
            wall: wall.unwrap_or(TimeSpec::new(0, 0)),
            boot,
            believed: !self.was_set() && steady,
            not_before: self.empty_at,
        };
        self.empty_at = began;
        batch
    }

    /// Whether the wall clock was set since the last question.
    fn was_set(&self) -> bool {
        // EAGAIN: neither cancelled nor over. Anything else is no reason to believe a stamp.
        self.set.wait() != Err(Errno::EAGAIN)
    }
}

/// By how much the wall clock is ahead of the clock of the lease, in nanoseconds, as of the last look.
#[derive(Debug, Default)]
struct Ahead(Option<i128>);

impl Ahead {
    /// Takes a reading of the wall clock between two of the lease's clock, and says whether their difference is as it was.
    fn is_as_it_was(&mut self, before: Instant, wall: Option<TimeSpec>, boot: Instant) -> bool {
        let ahead = wall.map(|wall| nanos(wall) - i128::from(boot.0));
        let known = core::mem::replace(&mut self.0, ahead);
        let close = boot.since(before) <= SLACK;
        let same = |(now, then): (i128, i128)| now.abs_diff(then) <= u128::from(SLACK.0);
        close && ahead.zip(known).is_some_and(same)
    }
}

fn nanos(time: TimeSpec) -> i128 {
    i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
}

impl Batch {
    /// When one of them arrived, or a little later; without a stamp that is now.
    pub(super) fn arrived(&self, stamp: Option<TimeSpec>) -> Instant {
        let stamp = stamp.filter(|_| self.believed);
        let lain = stamp.map_or(0, |stamp| nanos(self.wall) - nanos(stamp));
        // One of the future has not lain at all; one from before the epoch is bounded below all the same.
        let lain = u64::try_from(lain.max(0)).unwrap_or(u64::MAX);
        Instant(self.boot.0.saturating_sub(lain)).max(self.not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch = Batch {
        wall: TimeSpec::new(1_000, 30_000_000),
        boot: Instant(500_000_000),
        believed: true,
        not_before: Instant(470_000_000),
    };

    #[test]
    fn what_lay_in_the_socket_for_twenty_milliseconds_arrived_so_long_ago() {
        let stamp = TimeSpec::new(1_000, 10_000_000);
        assert_eq!(BATCH.arrived(Some(stamp)), Instant(480_000_000));
    }

    #[test]
    fn what_has_no_stamp_or_one_of_the_future_arrived_now() {
        assert_eq!(BATCH.arrived(None), BATCH.boot);
        assert_eq!(BATCH.arrived(Some(TimeSpec::new(1_001, 0))), BATCH.boot);
    }

    #[test]
    fn once_the_wall_clock_was_set_nothing_is_known_to_have_arrived_before_now() {
        let batch = Batch {
            believed: false,
            ..BATCH
        };
        let stamp = TimeSpec::new(1_000, 10_000_000);
        assert_eq!(batch.arrived(Some(stamp)), batch.boot);
    }

    #[test]
    fn nothing_arrived_before_the_socket_was_last_seen_empty() {
        let stamp = TimeSpec::new(999, 0);
        assert_eq!(BATCH.arrived(Some(stamp)), BATCH.not_before);
        assert_eq!(BATCH.arrived(Some(TimeSpec::new(0, 0))), BATCH.not_before);
    }

    #[test]
    fn a_step_of_the_wall_clock_is_seen_before_the_kernel_tells_of_it() {
        let mut ahead = Ahead::default();
        let mut look = |boot: u64, wall_ms: i64, took: u64| {
            let wall = TimeSpec::new(1_000 + wall_ms / 1_000, wall_ms % 1_000 * 1_000_000);
            let boot = Instant(boot * 1_000_000);
            ahead.is_as_it_was(Instant(boot.0 - took * 1_000), Some(wall), boot)
        };
        assert!(!look(500, 0, 1), "nothing is known yet");
        assert!(look(525, 25, 1));
        assert!(!look(550, 80, 1), "30 ms forward");
        assert!(look(575, 105, 1));
        assert!(!look(600, 100, 1), "and back");
        assert!(look(625, 125, 1));
        assert!(
            !look(650, 150, 700),
            "the thread was kept from running between the readings"
        );
    }

    #[test]
    fn a_clock_that_nobody_sets_is_believed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut arrivals = Arrivals::at(&socket).unwrap();
        let believed = (0..100).filter(|_| arrivals.batch(now()).believed).count();
        assert!(believed > 50, "{believed} of 100, where the first can't be");
    }
}
